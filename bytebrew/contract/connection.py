"""The database as work functions see it."""

import sqlite3
from typing import TypeAlias

Connection: TypeAlias = sqlite3.Connection
"""A connection within a transaction: `execute` and `executemany`, whose rows are read by name and by index.

The contract promises these and nothing else of it, so that another store can stand behind the same functions.
"""
