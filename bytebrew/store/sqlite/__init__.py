"""The SQLite database: connections, transactions, migrations."""
