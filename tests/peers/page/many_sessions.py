"""Data folders full of sessions, as years of use leave them."""

from contextlib import closing
from pathlib import Path

from bytebrew.store.sqlite.pragmas import connect

LONG = "019c0000-0000-7000-8000-00000000beef"
"""A session whose one turn has 400 steps and 5,000 events."""
STEPS = 400
_MOMENT = "strftime('%Y-%m-%dT%H:%M:%f000Z', '2026-06-01', '+' || ({}) || ' seconds')"
_SESSION = """insert into sessions (id, schema, agent, owner, user_sub, title, created_at, updated_at, status)
  select {id}, 'talk', 'talk', 'ada', 'user ' || (n % 40), {title}, {at}, {at}, {status} from n"""
_TURN = """insert into turns (id, session_id, message, attachments, own_key, subagents, root_turn_id, lineage, status,
  code, first_event, last_event, packed, input_tokens, output_tokens, cost_usd, created_at, started_at, finished_at)
  select 'turn-' || {id}, {id}, {title}, '[]', 0, 0, 'turn-' || {id}, '[]', {status}, {code}, 1, {last}, 1, 900, 80,
  0.0042, {at}, {at}, {until} from n"""
_MANY = {
    "id": "printf('019c0001-0000-7000-8000-%012x', n)",
    "title": "'Question ' || n || ' of a customer about an order'",
    "status": "iif(n % 25 = 3, 'failed', 'completed')",
    "code": "iif(n % 25 = 3, 'model_rate_limited', '')",
    "at": _MOMENT.format("n * 60"),
    "until": _MOMENT.format("n * 60 + 7"),
    "last": "2",
}
_ONE = {
    "id": f"'{LONG}'",
    "title": "'A long day'",
    "status": "'completed'",
    "code": "''",
    "at": _MOMENT.format("1000000"),
    "until": _MOMENT.format("1004000"),
    "last": "5000",
}
_OF_STEP = _MOMENT.format("1000000 + n * 10 + {}")


def fill(data: Path, count: int) -> None:
    """Adds so many short sessions, and the long one behind them, to an engine that is not running."""
    numbers = "with recursive n (n) as (select 1 union all select n + 1 from n where n < {}) "
    long = f"'turn-{LONG}'"
    with closing(connect(data / "bytebrew.db", "off")) as conn:
        conn.execute("begin")
        for values, rows in ((_MANY, count), (_ONE, 1)):
            for sql in (_SESSION, _TURN):
                # `with` comes before `insert`, for which SQLite allows it
                conn.execute(numbers.format(rows) + sql.format(**values))
        conn.execute(
            numbers.format(STEPS)
            + f"""insert into usage (turn_id, schema, agent, model, subject, input_tokens, output_tokens, cached_tokens,
            thinking_tokens, cost_usd, created_at, provider, model_name, started_at, finished_at, first_token_at)
            select {long}, 'talk', 'talk', 'talk', 'ada', 900, 80, 300, 0, 0.001, {_OF_STEP.format(6)}, 'paced',
            'paced', at, at + 6, at + 1 from (select n, unixepoch('2026-06-01') + 1000000 + n * 10 as at from n)"""
        )
        conn.execute(
            numbers.format(STEPS)
            + f"""insert into tool_calls (turn_id, call_id, tool, input, output, status, asked_at, started_at,
            finished_at)
            select {long}, 'call ' || n, 'weather', '{{"city": "Oslo"}}', 'Sunny', iif(n % 50, 'completed', 'failed'),
            {_OF_STEP.format(6)}, {_OF_STEP.format(6)}, {_OF_STEP.format(9)} from n"""
        )
        conn.execute(
            numbers.format(5000)
            + f"""insert into events (session_id, n, type, data, at)
            select '{LONG}', n, case when n = 5000 then 'done' when n % 4 = 3 then 'tool_call'
            when n % 4 = 0 then 'tool_result' else 'message_delta' end,
            cast('{{"content":"word ' || n || ' and more","tool":"weather","call_id":"' || n || '"}}' as blob),
            (unixepoch('2026-06-01') + 1000000) * 1000 + n * 800 from n"""
        )
        conn.execute("commit")
