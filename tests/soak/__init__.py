"""An hour of mixed traffic against a real engine that is disturbed: whether it grows, slows down or loses anything."""
