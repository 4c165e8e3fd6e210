"""Storage: the database, its backups, and SQL grouped by table as plain functions of a connection."""
