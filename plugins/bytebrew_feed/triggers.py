"""Triggers that note each change of what people look at, in the transaction of the change itself.

SQLite's are temporary and exist while somebody follows the feed, so that nobody pays for what nobody reads. A
transaction that is rolled back leaves no note.
"""

from bytebrew import Connection, dialect

from . import shared

_TABLE = """create temp table if not exists feed_changes (
  n integer primary key, topic text not null, id text not null, data text not null)"""
NOTE = "insert into feed_changes (topic, id, data)"
_ENDED = "('completed', 'failed', 'cancelled', 'absorbed')"
_STARTED = "case new.status when 'running' then 'turn.started' else '{}' end"
_TURN = """json_object('session_id', new.session_id, 'status', new.status, 'parent_turn_id', new.parent_turn_id,
  'agent', (select agent from sessions where id = new.session_id),
  'schema', (select schema from sessions where id = new.session_id))"""
_QUESTION = """json_object('session_id', new.session_id, 'turn_id', new.turn_id, 'agent', new.agent,
  'tool', new.tool, 'kind', new.kind, 'risk', new.risk, 'status', new.status)"""
_TASK = "json_object('status', new.status, 'agent', new.agent, 'session_id', new.session_id)"
_TRIGGERS = {
    "confirmations": {
        "after insert": f"select 'approval.created', new.id, {_QUESTION}",
        "after update of status": f"""select 'approval.answered', new.id, {_QUESTION}
          where new.status <> old.status""",
    },
    "turns": {
        "after insert": f"select {_STARTED.format('turn.queued')}, new.id, {_TURN}",
        "after update of status": f"""select {_STARTED.format("turn.ended")}, new.id, {_TURN}
          where new.status <> old.status and (new.status = 'running' or new.status in {_ENDED})""",
    },
    "tasks": {
        "after insert": f"select 'task.changed', new.id, {_TASK}",
        "after update": f"select 'task.changed', new.id, {_TASK}",
    },
    "versions": {
        "after insert": """select 'config.changed', new.name, json_object('kind', new.section, 'version', new.n)""",
    },
    "mcp_servers": {
        "after insert": "select 'mcp.changed', new.name, '{}'",
        "after update": "select 'mcp.changed', new.name, '{}'",
        "after delete": "select 'mcp.changed', old.name, '{}'",
    },
    "mcp_pins": {
        "after insert": """select 'mcp.changed', name, json_object('tool', new.tool)
          from mcp_servers where id = new.server_id""",
        "after update": """select 'mcp.changed', name, json_object('tool', new.tool)
          from mcp_servers where id = new.server_id""",
        "after delete": """select 'mcp.changed', name, json_object('tool', old.tool)
          from mcp_servers where id = old.server_id""",
    },
    "mcp_sightings": {
        "after insert": """select 'mcp.changed', name, json_object('tool', new.tool)
          from mcp_servers where id = new.server_id""",
        "after update": """select 'mcp.changed', name, json_object('tool', new.tool)
          from mcp_servers where id = new.server_id""",
    },
}
"""For each table what is noted when; the tables of a plugin that is not loaded are not there."""


def watch(conn: Connection, run: str) -> shared.Place | None:
    """Begins to note changes for a feed; where other nodes note theirs too, the place behind which they are."""
    if dialect(conn) == "postgresql":
        return shared.watch(conn, run, _TRIGGERS)
    conn.execute(_TABLE)
    for table, moments in _TRIGGERS.items():
        if conn.execute("select 1 from main.sqlite_master where type = 'table' and name = ?", (table,)).fetchone():
            for moment, noted in moments.items():
                trigger = f"feed_{table}_{moment.split()[1]} {moment} on main.{table}"
                conn.execute(f"create temp trigger if not exists {trigger} begin {NOTE} {noted}; end")
    return None


def unwatch(conn: Connection, run: str) -> None:
    """Ends that, and forgets what was noted."""
    if dialect(conn) == "postgresql":
        shared.unwatch(conn, run)
        return
    names = "select name from temp.sqlite_master where type = 'trigger' and name like 'feed\\_%' escape '\\'"
    for row in conn.execute(names).fetchall():
        conn.execute(f"drop trigger temp.{row['name']}")
    conn.execute("drop table if exists temp.feed_changes")
