"""SQL specific to SQLite (full-text search by FTS5, the retention), and with functions that PostgreSQL gets."""

MATCHES = """select rowid, -bm25(memory_search, 0, 1) as score from memory_search where memory_search match ?
  order by score desc"""  # the owner's column has no weight
NEWEST = """select n, content, metadata, updated_at, julianday(:now) - julianday(updated_at) as days,
  case model when cast(:model as text) then vector end as vector from memory_entries
  where owner_id = :owner and (cast(:only as text) is null or n in (
    select cast(value as integer) from json_each(cast(:only as text))))
  order by updated_at desc, n desc limit :limit"""
MISSING = """select n, owner_id, content from memory_entries
  where n > coalesce((select rowid from memory_search order by rowid desc limit 1), 0) order by n limit ?"""
"""Memories that came from another store, which are not in the index yet: the newest are added last."""
INDEX = "insert into memory_search (rowid, owner, content) values (?, ?, ?)"
FORGET = """delete from memory_entries where n in (
  select e.n from agent_capabilities c join memory_entries e on e.agent_id = c.agent_id
  where c.type = 'memory' and e.updated_at < strftime(
    '%Y-%m-%dT%H:%M:%fZ', 'now', '-' || json_extract(c.config, '$.retention_days') || ' days') limit 200)
returning n"""
"""Deletes some memories that are past the retention of the agent that stored them."""

ERASE = "insert into memory_search (memory_search) values ('optimize')"
"""Removes the words of deleted memories from the index, which keeps them until its parts are merged."""
