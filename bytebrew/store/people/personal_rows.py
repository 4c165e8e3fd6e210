"""What the core stores of a person, by kind."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from msgspec import Raw

from bytebrew.contract.connection import Connection, insert, placeholders
from bytebrew.contract.governance.personal_data import Person, PersonalData, names_of
from bytebrew.store import sessions

MOST = 200
"""Rows that are deleted or masked at once."""


def find(conn: Connection, sub: str, mask: str) -> Person:
    """The person with all sessions: of the subject, of the end user, below them, and forks, which share messages."""
    names = names_of(sub)
    marks = placeholders(names)
    found = dict.fromkeys(
        row["id"]
        for row in conn.execute(
            f"""select id from sessions where owner in ({marks}) and parent_id is null union
            select id from sessions where user_sub in ({marks}) and user_sub <> '' and parent_id is null union
            select s.id from removals r join sessions s on s.id = r.session_id
            where s.owner in ({marks}) or s.user_sub in ({marks})
            order by id""",  # a deleted one that a fork shares is held
            names * 4,
        )
    )
    rows = [*found]
    while rows:
        below = [
            row[0]
            for session_id in rows
            for row in conn.execute(
                """select id from sessions where parent_id = ?1 and id <> ?1
                union select id from sessions where forked_from = ?1
                union select session_id from shared_history where holder = ?1
                union select s.id from tasks t join sessions s on s.id = t.session_id where t.made_in = ?1
                order by id""",
                (session_id,),
            )
        ]
        rows = [one for one in dict.fromkeys(below) if one not in found]
        found |= dict.fromkeys(rows)
    return Person(names, mask, (*found,))


def _of_sessions(sql: str, conn: Connection, person: Person) -> Iterator[dict[str, Any]]:
    """The rows of a statement for each session; columns that end in `_json` are JSON."""
    for session_id in person.sessions:
        for row in conn.execute(sql, (session_id,)):
            yield {key.removesuffix("_json"): _value(key, row[key]) for key in row.keys()}  # noqa: SIM118


def _value(key: str, value: Any) -> Any:
    return Raw(value.encode()) if key.endswith("_json") and value is not None else value


def _exporting(sql: str) -> Callable[[Connection, Person], Iterable[Any]]:
    return partial(_of_sessions, sql)


def _with_sessions(conn: Connection, person: Person) -> int:
    """Deletes nothing: these rows go with their sessions."""
    return 0


def _forget_sessions(conn: Connection, person: Person) -> int:
    """Hides sessions; `continue_removals` deletes their rows."""
    hidden = 0
    for session_id in person.sessions:
        if sessions.owner(conn, session_id) is not None:
            hidden += len(sessions.start_removal(conn, session_id))
        if hidden >= MOST:
            break
    _forget_counts(conn, "sessions_of", person)
    return hidden


def _forget_counts(conn: Connection, table: str, person: Person) -> None:
    """Deletes the owner's number of rows, once it is 0."""
    conn.execute(f"delete from {table} where owner in ({placeholders(person.names)}) and rows = 0", person.names)


def tasks_of(conn: Connection, person: Person) -> list[str]:
    """The ids of the person's tasks, and of those that agents created in the person's sessions."""
    marks = placeholders(person.names)
    found = [row["id"] for row in conn.execute(f"select id from tasks where owner in ({marks})", person.names)]
    for session_id in person.sessions:
        rows = conn.execute("select id from tasks where made_in = ?1 or session_id = ?1", (session_id,))
        found += [row["id"] for row in rows]
    return [*dict.fromkeys(found)]


def open_tasks(conn: Connection, person: Person) -> list[str]:
    """Those of the person's tasks that have not ended."""
    sql = "select 1 from tasks where id = ? and completed_at is null"
    return [one for one in tasks_of(conn, person) if conn.execute(sql, (one,)).fetchone()]


def _export_tasks(conn: Connection, person: Person) -> Iterator[dict[str, Any]]:
    columns = """id, title, description, agent, schema, status, source, mode, priority, acceptance_criteria, session_id,
      result, error, created_at, started_at, completed_at"""
    for task_id in tasks_of(conn, person):
        yield dict(conn.execute(f"select {columns} from tasks where id = ?", (task_id,)).fetchone())


def _forget_tasks(conn: Connection, person: Person) -> int:
    found = tasks_of(conn, person)[:MOST]
    conn.executemany("delete from tasks where id = ?", [(one,) for one in found])
    conn.execute(f"delete from task_queue where owner in ({placeholders(person.names)})", person.names)
    _forget_counts(conn, "tasks_of", person)
    return len(found)


def _forget_answers(conn: Connection, person: Person) -> int:
    """Masks who answered questions in sessions of others, and empties the forms that were filled in and taken there."""
    return conn.execute(
        f"""update confirmations set answered_by = ?, reason = '',
        edited = case when kind = 'elicitation' and resume_state is null then null else edited end where id in (
        select id from confirmations where answered_by in ({placeholders(person.names)}) limit {MOST})""",
        (person.mask, *person.names),
    ).rowcount


def _keys(columns: str, person: Person) -> tuple[str, Sequence[Any]]:
    return f"select {columns} from idempotency where subject in ({placeholders(person.names)})", person.names


def _export_keys(conn: Connection, person: Person) -> Iterator[dict[str, Any]]:
    for row in conn.execute(*_keys("method, path, key, created_at", person)):
        yield dict(row)


def _forget_keys(conn: Connection, person: Person) -> int:
    sql, names = _keys("subject, method, path, key", person)
    own = f"delete from idempotency where (subject, method, path, key) in ({sql} limit {MOST})"
    count = conn.execute(own, names).rowcount
    for session_id in person.sessions:
        of_turns = "delete from idempotency where turn_id in (select id from turns where session_id = ?)"
        count += conn.execute(of_turns, (session_id,)).rowcount
    return count


_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "thinking_tokens", "cache_write_tokens")
_SUMS = ("turns", "calls", *_TOKENS, "priced", "cost")


def _days(conn: Connection, person: Person) -> list[str]:
    """The days on which the person used a model, and at last "" for the sum of all days."""
    days = [row["day"] for row in conn.execute("select day from usage_days where kind = 'total' order by day desc")]
    sql = f"""select 1 from usage_days where kind = 'token' and day = ?
      and key in ({placeholders(person.names)})"""
    return [day for day in (*days, "") if conn.execute(sql, (day, *person.names)).fetchone()]


def _export_usage(conn: Connection, person: Person) -> Iterator[dict[str, Any]]:
    for day in filter(None, _days(conn, person)):
        rows = conn.execute(
            f"""select turn_id, schema, agent, model, input_tokens, output_tokens, cost_usd, created_at from usage
            where created_at >= ? and created_at < ? and subject in ({placeholders(person.names)})""",
            (day, f"{day}~", *person.names),
        )
        for row in rows:
            yield dict(row)


def _forget_usage(conn: Connection, person: Person) -> int:
    """Masks the person in the rows and sums of one day, so that the sums of all stay as they are."""
    if not (days := _days(conn, person)):
        return 0
    count = conn.execute(
        f"""update usage set subject = ? where created_at >= ? and created_at < ?
        and subject in ({placeholders(person.names)})""",
        (person.mask, days[0], f"{days[0]}~" if days[0] else "", *person.names),
    ).rowcount
    _mask_sums(conn, person, "usage_days", ("kind", "day", "key"), _SUMS, days[0])
    _mask_sums(conn, person, "usage_spans", ("kind", "day", "key", "earlier"), ("turns",), days[0])
    return max(1, count)


def _mask_sums(conn: Connection, person: Person, table: str, key: Sequence[str], sums: Sequence[str], day: str) -> None:
    where = f"kind = 'token' and day = ? and key in ({placeholders(person.names)})"
    named = (day, *person.names)
    added = ", ".join(f"{name} = {name} + ?" for name in sums)
    same = " and ".join(f"{name} = ?" for name in key)
    for row in conn.execute(f"select {', '.join((*key, *sums))} from {table} where {where}", named).fetchall():
        masked = {**dict(row), "key": person.mask}
        values = [masked[name] for name in (*sums, *key)]
        if not conn.execute(f"update {table} set {added} where {same}", values).rowcount:
            insert(conn, table, masked)
    conn.execute(f"delete from {table} where {where}", named)


def _export_replays(conn: Connection, person: Person) -> Iterator[dict[str, Any]]:
    sql = f"select id, definition, status, created_at from replays where owner in ({placeholders(person.names)})"
    for row in conn.execute(sql, person.names):
        yield {**dict(row), "definition": Raw(row["definition"].encode())}


def _forget_replays(conn: Connection, person: Person) -> int:
    """Deletes the person's own runs, of which few are kept."""
    return conn.execute(f"delete from replays where owner in ({placeholders(person.names)})", person.names).rowcount


def _export_versions(conn: Connection, person: Person) -> Iterator[dict[str, Any]]:
    rows = conn.execute(
        f"""select section, name, n, moment, action from versions where subject in ({placeholders(person.names)})
        order by moment""",
        person.names,
    )
    yield from map(dict, rows)


def _forget_versions(conn: Connection, person: Person) -> int:
    """Masks who made versions of the configuration, which stays as it is."""
    return conn.execute(
        f"""update versions set actor = ?1, subject = ?1 where id in (
        select id from versions where subject in (?2, ?3) limit {MOST})""",
        (person.mask, *person.names),
    ).rowcount


def kinds() -> tuple[PersonalData, ...]:
    """The core's kinds; tasks before the sessions that tell whose they are."""
    return (
        PersonalData("tasks", _export_tasks, _forget_tasks),
        PersonalData("idempotency_keys", _export_keys, _forget_keys),
        PersonalData(
            "turns",
            _exporting(
                """select id, session_id, message, instructions, kept as kept_json, status, input_tokens, output_tokens,
                cost_usd, created_at, started_at, finished_at from turns where session_id = ? order by seq"""
            ),
            _with_sessions,
        ),
        PersonalData(
            "messages",
            _exporting(
                """select session_id, n, turn_id, body as message_json, created_at from messages
                where session_id = ? order by n"""
            ),
            _with_sessions,
        ),
        PersonalData(
            "tool_calls",
            _exporting(
                """select t.session_id, c.turn_id, c.call_id, c.tool, c.input as input_json,
                coalesce(r.output, c.output) as output, c.status, c.started_at, c.finished_at
                from turns t join tool_calls c on c.turn_id = t.id
                left join results r on r.turn_id = c.turn_id and r.call_id = c.call_id
                where t.session_id = ? order by t.seq, c.asked_at, c.call_id"""
            ),
            _with_sessions,
        ),
        PersonalData(
            "confirmations",
            _exporting(
                """select id, session_id, turn_id, call_id, kind, agent, tool, input as input_json, status, verdict,
                edited as edited_json, reason, answered_by, answered_at, created_at from confirmations
                where session_id = ? order by seq"""
            ),
            _forget_answers,
        ),
        PersonalData(
            "summaries",
            _exporting("select session_id, content, created_at from summaries where session_id = ?"),
            _with_sessions,
        ),
        PersonalData(
            "replayed_turns",
            _exporting("select replay_id, turn_id, report as report_json from replay_turns where session_id = ?"),
            _with_sessions,
        ),
        PersonalData("replays", _export_replays, _forget_replays),
        PersonalData(
            "sessions",
            _exporting(
                """select id, schema, agent, owner, user_sub, title, parent_id, status, created_at, updated_at
                from sessions where id = ?"""
            ),
            _forget_sessions,
        ),
        PersonalData("usage", _export_usage, _forget_usage),
        PersonalData("versions", _export_versions, _forget_versions),
    )
