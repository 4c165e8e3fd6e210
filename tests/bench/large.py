"""A file with a year of use in it, and how long its lists and sums take."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import httpx
import uvloop

from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import ADMIN
from tests.bench import load
from tests.bench.data import copied
from tests.bench.figures import Heading, Line, Target, percentile
from tests.bench.measures import engine_wire
from tests.bench.servers import Server, running_engine

LISTERS = 4
CHATTERS = 4
PAUSE = 0.1
"""Seconds that a client reads a list before it asks for the next."""
LONGEST = 4.0
"""Seconds for which a list is asked for again."""
MOST, ROUNDS = 200, 3
_DAY, _SIZE = "2026-01-01", 365 * 86400


class Size(NamedTuple):
    """How much a file holds; each session has two turns."""

    sessions: int
    events: int


SIZES = {"small": Size(3_000, 100_000), "medium": Size(30_000, 1_000_000), "large": Size(300_000, 10_000_000)}

_MOMENT = "strftime('%Y-%m-%dT%H:%M:%S.000000Z', '{day}', ({n} * {size} / {count}) || ' seconds')"
_FILL = (
    "create temp table picked (n integer primary key, id text, agent text, owner text, sub text, at text, status text)",
    """insert into picked with recursive n (n) as (select 0 union all select n + 1 from n where n + 1 < {sessions})
      select n, printf('019c%04x-%04x-7000-8000-%012x', n >> 16, n & 65535, n), 'agent' || (n * 7919 % 8),
      case when n % 2 then :subject else 'user:' || (n * 104729 % 20000) end,
      case when n % 3 then '' else 'sub' || (n * 15485863 % 20000) end, {moment},
      case when n % 25 = 3 then 'failed' when n % 100 = 7 then 'cancelled' else 'completed' end from n""",
    """insert into sessions (id, schema, agent, owner, user_sub, title, created_at, updated_at)
      select id, 'schema' || substr(agent, 6), agent, owner, sub, 'Session ' || n, at, at from picked order by n""",
    """insert into turns (id, session_id, message, attachments, own_key, subagents, root_turn_id, lineage, status,
        first_event, last_event, packed, input_tokens, output_tokens, created_at, started_at, finished_at)
      select 'turn_' || t || '-' || id, id, 'How much is it?', '[]', 0, 0, 'turn_' || t || '-' || id, '[]',
      iif(t = 2, status, 'completed'), (t - 1) * {each} + 1, t * {each}, 1, 120, 40, at, at, at
      from picked cross join (select 1 as t union all select 2) order by n, t""",
    """insert into messages (session_id, n, turn_id, body, tokens, created_at)
      select id, m, 'turn_' || ((m + 1) / 2) || '-' || id,
      iif(m % 2, '{{"role":"user","content":"How much is it?"}}', '{{"role":"assistant","content":"It is 12."}}'),
      10, at from picked cross join (select 1 as m union all select 2 union all select 3 union all select 4)
      order by n, m""",
    """insert into usage (turn_id, schema, agent, model, subject, input_tokens, output_tokens, cached_tokens,
        thinking_tokens, cost_usd, created_at)
      select 'turn_' || t || '-' || id, 'schema' || substr(agent, 6), agent, 'model' || (n % 5), owner, 120, 40, 0, 0,
      iif(n % 5, 0.0012, null), at from picked cross join (select 1 as t union all select 2) order by n, t""",
    """insert into events (session_id, n, type, data) with recursive e (e) as (
        select 1 union all select e + 1 from e where e < 2 * {each})
      select id, e, case e % {each} when 0 then 'done' when {each} - 1 then 'message' else 'message_delta' end,
      cast('{{"content":"word' || e || ' of session ' || n || ', some more words to read in it"}}' as blob)
      from picked cross join e order by n, e""",
    """insert into tasks (id, owner, title, description, agent, schema, status, source, mode, priority,
        acceptance_criteria, blocked_by, session_id, created_at, completed_at)
      select 'task_' || id, owner, 'Task ' || n, '', agent, '', status, iif(n % 10, 'api', 'schedule'), 'background',
      0, '[]', '[]', id, at, at from picked where n % 3 = 0 order by n""",
    """insert into confirmations (id, session_id, turn_id, call_id, kind, agent, tool, input, args_digest, status,
        created_at)
      select 'conf_' || id, id, 'turn_1-' || id, 'call', 'confirm', agent, 'send', '{{}}', '', 'spent', at from picked
      where n % 10 = 0 order by n""",
    """insert into audit_tool_calls (turn_id, call_id, session_id, agent_name, tool_name, input, output, status,
        duration_ms, user_id, created_at)
      select 'turn_1-' || id, 'call', id, agent, 'tool' || (n % 12), '{{"n": 1}}', cast('It is 12 a kilo.' as blob),
      iif(n % 30, 'completed', 'failed'), 12, owner, at from picked order by n""",
    """insert into audit_changes (timestamp, actor, actor_type, actor_id, action, resource, resource_type, resource_id,
        details)
      select at, 'ada', iif(n % 5, 'admin', 'api_token'), 'ada', iif(n % 4, 'agent', 'model') || '.update',
      'PUT /api/v1/agents/a' || (n % 500), 'agent', 'a' || (n % 500),
      '{{"method":"PUT","path":"/api/v1/agents/a","status_code":200,"client":"127.0.0.1","request_id":"r"}}'
      from picked where n % 3 = 0 order by n""",
)


def fill(data: Path, subject: str, size: Size) -> None:
    """Puts sessions, turns, events, tasks and audits of a year into a data folder; the subject owns half of them."""
    names = {
        "sessions": size.sessions,
        "each": size.events // size.sessions // 2,
        "moment": _MOMENT.format(day=_DAY, n="n", size=_SIZE, count=size.sessions),
    }
    with closing(connect(data / "bytebrew.db", "off")) as conn:
        conn.execute("pragma cache_size = -200000")
        conn.execute("begin")
        for sql in _FILL:
            conn.execute(sql.format(**names), {"subject": subject} if ":subject" in sql else {})
        conn.execute("commit")
        conn.execute("pragma wal_checkpoint(truncate)").fetchall()


def token(engine: Server) -> tuple[str, str]:
    """A token for chat, as it is sent, and its subject."""
    url = f"http://127.0.0.1:{engine.port}/api/v1/auth/tokens"
    answer = httpx.post(
        url, json={"name": "website", "scopes": ["chat"]}, headers={"Authorization": f"Bearer {ADMIN}"}
    ).raise_for_status()
    return answer.json()["token"], f"token:{answer.json()['id']}"


LISTS = {
    "sessions": "/sessions",
    "of a status": "/sessions?status=failed",
    "of a caller with half of them": "/sessions?limit=20&mine",
    "of a caller and a status": "/sessions?status=failed&mine",
    "of an agent and a status": "/sessions?agent=agent3&status=failed",
    "of an end user": "/sessions?user_sub=sub3000",
    "between two moments": "/sessions?from=2026-03-01T09:30:00Z&to=2026-09-01T12:00:00Z&schema=schema2",
    "the 5,000th page": "/sessions?page=5000",
    "by the latest activity": "/sessions?sort=updated",
    "that run": "/sessions?status=running",
    "tasks": "/tasks?per_page=20",
    "of a status, an agent": "/tasks?per_page=20&status=failed&agent=agent3",
    "the 4,000th page ": "/tasks?per_page=20&page=4000",
    "approvals": "/approvals?status=spent&limit=20",
    "the 400th page  ": "/approvals?status=spent&limit=20&offset=8000",
    "tool calls": "/audit/tool-calls?per_page=20",
    "of an agent, a tool": "/audit/tool-calls?per_page=20&agent=agent3&tool=tool6",
    "of a caller": "/audit/tool-calls?per_page=20&user_id=user:1288",
    "the 10,000th page": "/audit/tool-calls?per_page=20&page=10000",
    "changes": "/audit?per_page=20",
    "of an actor, an action": "/audit?per_page=20&actor_type=api_token&action=model.update",
}
"""The lists and how they are asked for, with `&mine` by the caller who owns half of the file."""
_SUMS = {
    "usage by day": "/usage",
    "by agent": "/usage?group_by=agent",
    "by model, some months": "/usage?group_by=model&from=2026-03-01T09:30:00Z&to=2026-09-01T12:00:00Z",
    "by token, of 10,001": "/usage?group_by=token",
}


def measured(fresh: Path, sizes: tuple[str, str], seconds: float) -> Iterator[object]:
    """Lists, sums and chats of two files that hold little and much, side by side."""
    folders, own = [], []
    yield Heading("Lists of a large file", *sizes)
    for name in sizes:
        folder = copied(fresh, name)
        with running_engine(folder) as engine:
            bearer, subject = token(engine)
        fill(folder, subject, SIZES[name])
        folders.append(folder)
        own.append(bearer)
    less, more = (SIZES[name] for name in sizes)
    yield Line("sessions", less.sessions, more.sessions)
    yield Line("events", less.events, more.events)
    few, many = ((folder / "bytebrew.db").stat().st_size / 1e6 for folder in folders)
    yield Line("MB", few, many)
    with running_engine(folders[0]) as small, running_engine(folders[1]) as large:
        yield from _lists(small, large, own)
        yield Heading(f"{CHATTERS} clients chat, {LISTERS} list", f"{sizes[0]}, idle", sizes[-1])
        yield from _chats(small, large, own[-1], seconds)


def _lists(small: Server, large: Server, own: Sequence[str]) -> Iterator[object]:
    for paths, bound in ((LISTS, 20.0), (_SUMS, 50.0)):
        for name, path in paths.items():
            bearers = own if path.endswith("&mine") else (ADMIN, ADMIN)
            few, many = (
                times(server, path.removesuffix("&mine"), bearer)
                for server, bearer in zip((small, large), bearers, strict=True)
            )
            p99 = percentile(many, 99)
            yield Line(f"p50 ms: {name}", percentile(few, 50), percentile(many, 50))
            yield Line(f"p99 ms: {name}", percentile(few, 99), p99, Target(f"< {bound:g} ms", p99 < bound))


def times(server: Server, path: str, bearer: str) -> list[float]:
    """Milliseconds of each answer, as many as come in a few seconds."""
    found: list[float] = []
    url, until = f"http://127.0.0.1:{server.port}/api/v1{path}", time.perf_counter() + LONGEST
    with httpx.Client(headers={"Authorization": f"Bearer {bearer}"}, timeout=60) as api:
        api.get(url).raise_for_status()
        while len(found) < MOST and (not found or time.perf_counter() < until):
            started = time.perf_counter()
            api.get(url).raise_for_status()
            found.append((time.perf_counter() - started) * 1000)
    return found


def _chats(small: Server, large: Server, own: str, seconds: float) -> Iterator[object]:
    idle: list[float] = []
    busy: list[float] = []
    listed = 0
    for _ in range(ROUNDS):  # in turns, so that noise meets both alike
        turns, _ = uvloop.run(load.turn_after_turn([engine_wire(small, "burst")] * CHATTERS, seconds))
        idle += [turn.total * 1000 for turn in turns]
        turns, count = uvloop.run(_among_lists(large, own, seconds))
        busy += [turn.total * 1000 for turn in turns]
        listed += count
    for percent in (50, 99):
        base, ours = percentile(idle, percent), percentile(busy, percent)
        target = Target("ratio <= 1.2", ours <= 1.2 * base) if percent == 99 else None
        yield Line(f"p{percent} ms of a turn", base, ours, target)
    yield Line("turns/s", len(idle) / seconds / ROUNDS, len(busy) / seconds / ROUNDS)
    yield Line("lists/s meanwhile", None, listed / seconds / ROUNDS)


async def _among_lists(server: Server, own: str, seconds: float) -> tuple[list[load.Turn], int]:
    listed = 0

    async def read(path: str) -> None:
        nonlocal listed
        bearer = own if path.endswith("&mine") else ADMIN
        headers = {"Authorization": f"Bearer {bearer}"}
        base = f"http://127.0.0.1:{server.port}/api/v1"
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as api:
            while True:
                (await api.get(path.removesuffix("&mine"))).raise_for_status()
                listed += 1
                await asyncio.sleep(PAUSE)

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read(path)) for path in list(LISTS.values())[:LISTERS]]
        turns, _ = await load.turn_after_turn([engine_wire(server, "burst")] * CHATTERS, seconds)
        for reader in readers:
            reader.cancel()
    return turns, listed
