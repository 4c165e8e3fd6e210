"""SQL for views: which sessions, tasks and schemas are shown as the public sees them."""

from collections.abc import Sequence

from bytebrew.contract.connection import Connection, placeholders

_OF_SCHEMA = "case when s.schema = '' then 'full' else coalesce(x.view, 'public') end as view"
_WITH_SCHEMA = "left join schemas x on x.name = s.schema"
BY_PATH = {
    "/api/v1/schemas/{name}/chat": "select view from schemas where ? in (name, id)",
    "/api/v1/sessions/{id}": f"select {_OF_SCHEMA} from sessions s {_WITH_SCHEMA} where s.id = ?",
    "/api/v1/tasks/{id}": f"select {_OF_SCHEMA} from tasks s {_WITH_SCHEMA} where s.id = ?",
}
"""What reads the view of the thing that a path names; that of a schema that is gone is the public one."""


def of_path(conn: Connection, path: str, key: str) -> str | None:
    """The view of what a path of BY_PATH names, None if it is not there."""
    row = conn.execute(BY_PATH[path], (key,)).fetchone()
    return row["view"] if row else None


def full_schemas(conn: Connection) -> frozenset[str]:
    """The names of the schemas with the full view, and that of none."""
    return frozenset({"", *(row["name"] for row in conn.execute("select name from schemas where view = 'full'"))})


def made_by_agents(conn: Connection, ids: Sequence[str]) -> frozenset[str]:
    """Those of the sessions that an agent began, by a call of a tool: spawned agents' own, and those of its tasks."""
    sql = f"""select s.id from sessions s where s.id in ({placeholders(ids)}) and (s.parent_id is not null or exists (
      select 1 from tasks t where t.session_id = s.id and t.source = 'agent' and t.mode = 'background'))"""
    return frozenset(row["id"] for row in conn.execute(sql, tuple(ids)))
