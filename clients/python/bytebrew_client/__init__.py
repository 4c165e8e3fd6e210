"""Client of the ByteBrew engine."""
