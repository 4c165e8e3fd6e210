"""SQL expressions and statements that differ between databases, or are functions of SQLite, outside store/sqlite."""

from bytebrew.contract.connection import Connection, dialect

CAPABILITIES = """(select json_group_array(
    json_object('id', c.id, 'type', c.type, 'config', json(c.config), 'enabled', c.enabled))
    from (select * from agent_capabilities where agent_id = agents.id order by type) c)"""
"""The capabilities of an agent by type as JSON text, so that one statement reads an agent at the start of each turn."""
URGENCY = "julianday({0}.created_at) - {0}.priority / 144.0"
"""When a task is due, as a day number: ten minutes earlier for each step of priority. `{0}` is the table's alias."""
CAN_RUN = """{0}.status in ('pending', 'approved') and {0}.mode = 'background' and {0}.blockers = 0
  and {0}.not_before is null"""
"""The condition of the index tasks_ready. `{0}` is the table's alias."""

_EVER_HAD = {
    "sqlite": "select 1 from sqlite_sequence where name = ?",
    "postgresql": "select 1 where pg_sequence_last_value(pg_get_serial_sequence(?, 'id')::regclass) is not null",
}


def elements(json: str) -> str:
    """The elements of a JSON list as a table with the column `value`."""
    return f"json_each({json})"


def day_number(moment: str) -> str:
    """A time in RFC 3339 as a number of days."""
    return f"julianday({moment})"


def indexed_by(index: str) -> str:
    """Makes a query use an index that the planner would not choose, as it does not know the distribution of values."""
    return f"indexed by {index}"


def ever_had_rows(conn: Connection, table: str) -> bool:
    """Whether a table with keys `id` by autoincrement ever had a row, including deleted ones."""
    return conn.execute(_EVER_HAD[dialect(conn)], (table,)).fetchone() is not None


def has_table(conn: Connection, name: str) -> bool:
    """Whether the database has a table or a view of this name."""
    exists = {
        "sqlite": "select exists (select 1 from sqlite_master where name = ?)",
        "postgresql": "select to_regclass(?) is not null",
    }
    return bool(conn.execute(exists[dialect(conn)], (name,)).fetchone()[0])
