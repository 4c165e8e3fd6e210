"""Words of texts for full-text search on PostgreSQL, divided as SQLite's FTS5 does it."""
