"""Data folders for the engine: one that is configured, and copies with years of use in them."""

import random
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import httpx

from bytebrew.base.formats import new_id, new_uuid
from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import ADMIN
from tests.bench.servers import Server

CONTEXT = 4000
WORDS = [f"word{n}" for n in range(20_000)]
FREQUENCY = [1 / rank for rank in range(1, len(WORDS) + 1)]
"""As in a language (Zipf 1949)."""
MESSAGE = "Tell me about words. " * 67
"""About a tenth of CONTEXT with its answer, so that ten turns of it do not fit."""


def configure(engine: Server, vendor: Server) -> str:
    """Schemas `burst` and `paced` on the double's models of these names; the id of a session with one turn."""
    for name in ("burst", "paced"):
        add_schema(engine, vendor, name)
    with admin(engine) as api:
        answer = api.post("/schemas/burst/chat", json={"message": MESSAGE, "stream": False})
        session_id: str = answer.raise_for_status().json()["session_id"]
        return session_id


def admin(engine: Server) -> httpx.Client:
    """The admin's client of the engine's API."""
    url = f"http://127.0.0.1:{engine.port}/api/v1"
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60)


def add_schema(engine: Server, vendor: Server, name: str, **agent: object) -> None:
    """A model of the double, an agent with more fields and a schema, all of that name."""
    base_url = f"http://127.0.0.1:{vendor.port}/v1"
    model = {"type": "openai_compatible", "model_name": name, "base_url": base_url, "api_key": "sk-bench"}
    with admin(engine) as api:
        for path, body in (
            ("/models", model),
            ("/agents", {"model": name, "system": "You talk about words.", "max_context_size": CONTEXT, **agent}),
            ("/schemas", {"entry_agent": name, "chat_enabled": True}),
        ):
            answer = api.post(path, json={"name": name, **body})
            if answer.is_error:
                raise SystemExit(f"the engine refuses {path}: {answer.text}")


def copied(folder: Path, name: str) -> Path:
    """A copy of a data folder beside it."""
    shutil.copytree(folder, folder.parent / name)
    return folder.parent / name


def multiply(data: Path, session_id: str, sessions: int, turns: int) -> Sequence[str]:
    """Copies a session of one turn so many times, each with so many turns like its own; the new sessions' ids."""
    ids = sorted(new_uuid() for _ in range(sessions))
    with closing(connect(data / "bytebrew.db")) as conn:
        conn.execute("begin")
        conn.execute("create temp table copy (session_id text, turn_id text, turn integer)")
        conn.executemany(
            "insert into copy values (?, ?, ?)",
            ((one, new_id("turn"), turn) for one in ids for turn in range(turns)),
        )
        events, messages = (
            conn.execute(f"select max(n) from {table} where session_id = ?", (session_id,)).fetchone()[0]
            for table in ("events", "messages")
        )
        theirs = {"session_id": "copy.session_id", "turn_id": "copy.turn_id"}
        shift = {name: f"old.{name} + copy.turn * {events}" for name in ("first_event", "last_event")}
        _copy(conn, "sessions", "id", session_id, {"id": "copy.session_id"}, "copy.turn = 0")
        _copy(conn, "turns", "session_id", session_id, theirs | shift | {"seq": "null", "id": "copy.turn_id"})
        _copy(conn, "messages", "session_id", session_id, theirs | {"n": f"old.n + copy.turn * {messages}"})
        _copy(conn, "events", "session_id", session_id, theirs | {"n": f"old.n + copy.turn * {events}"})
        conn.execute("commit")
    return ids


def interrupt(data: Path, sessions: Sequence[str]) -> None:
    """Takes the one turn of each session back to where an engine that is killed at its first delta leaves it."""
    left = [(one,) for one in sessions]
    with closing(connect(data / "bytebrew.db")) as conn:
        conn.execute("begin")
        conn.executemany("delete from events where session_id = ? and n > 1", left)
        conn.executemany("delete from messages where session_id = ? and n > 1", left)
        conn.executemany(
            """update turns set status = 'running', last_event = null, finished_at = null, input_tokens = 0,
            output_tokens = 0 where session_id = ?""",
            left,
        )
        conn.execute("commit")


def open_turns(data: Path) -> int:
    """How many turns have not ended."""
    with closing(connect(data / "bytebrew.db", read_only=True)) as conn:
        sql = "select count(*) from turns where status in ('queued', 'running')"
        count: int = conn.execute(sql).fetchone()[0]
        return count


def know(engine: Server, base: str, chunks: int, **more: object) -> None:
    """A knowledge base of that name with so many chunks, whose words are as frequent as in a language."""
    dice = random.Random(chunks)
    path = f"/knowledge-bases/{base}"
    with admin(engine) as api:
        api.post("/knowledge-bases", json={"name": base, **more}).raise_for_status()
        for start in range(0, chunks, 200):
            parts = range(start, min(start + 200, chunks))
            text = "\n\n".join(f"# Part {n}\n\n{' '.join(dice.choices(WORDS, FREQUENCY, k=150))}." for n in parts)
            api.post(f"{path}/files", files={"file": (f"{start}.md", text.encode())}).raise_for_status()
        while (state := api.get(path).json())["status"] == "indexing":
            time.sleep(0.05)
        if state["status"] != "ready":
            raise SystemExit(f"the engine could not index the base: {state}")


def _copy(conn: Connection, table: str, key: str, old: str, new: dict[str, str], which: str = "true") -> None:
    columns = [row["name"] for row in conn.execute(f"pragma table_info({table})")]
    values = ", ".join(new.get(name, f"old.{name}") for name in columns)
    # cross join: SQLite then goes through the copies in their order, and the tables grow at their ends
    conn.execute(
        f"insert into {table} select {values} from copy cross join {table} old where old.{key} = ? and {which}", (old,)
    )
