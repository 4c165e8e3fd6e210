"""State: the database, its backups, and SQL by noun: plain functions of a connection, run by Database."""
