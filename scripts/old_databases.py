"""Writes tests/upgrades/databases.tar.xz: a database of each migration number, made by the code that had it.

`python scripts/old_databases.py NAME...` makes these anew, or all without a name. It takes the repository's history and
an environment in which the tests run. The code of each commit serves its own engine, which is used over HTTP as far as
its API goes; tables that stay empty then get one row that fits them.
"""

import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = ROOT / "tests" / "upgrades" / "databases.tar.xz"
KEY = "07" * 32
"""The content of keys/secrets.key, with which each file's credentials are sealed."""
COMMITS = {
    "core-03": "a8401e73",
    "triggers-1": "570c93dd",
    "core-04": "7058ccc2",
    "knowledge-2": "c90981dd",
    "mcp-2": "98168257",
    "knowledge-3": "a1753623",
    "core-05": "da6499a7",
    "core-06": "8d967b61",
    "core-07": "5c532c34",
    "core-08": "bff7d4ce",
    "core-09": "222701d1",
    "core-10": "bb829de0",
    "core-11": "1d3ba907",
    "mcp-3": "0864e763",
    "core-12": "5c13896c",
    "auth_local-1": "9929ffa9",
    "core-13": "00f64df0",
    "core-14": "5cc3a411",
    "mcp-4": "8d0f67a3",
    "core-15": "e12dd1d1",
    "core-16": "b1e79647",
    "core-17": "f3a36b3b",
    "mcp-5": "0d0f8f58",
    "core-18": "0b79aad5",
    "core-19": "778fb789",
    "core-20": "2f2136d8",
    "core-21": "d816daa0",
    "traces-1": "a204ced5",
    "core-22": "321b2da9",
    "core-23": "564a1eaf",
    "core-24": "1fdebf11",
    "core-25": "21947a8d",
    "core-26": "17d6ea73",
    "budgets-1": "85c5ca8e",
    "triggers-2": "1ab0271a",
    "audit-4": "ca1da9ca",
    "core-27": "960d6a0d",
    "core-28": "0ddc0187",
    "core-29": "d7a24fde",
    "core-30": "377ce134",
    "core-31": "8f2aaa07",
    "triggers-3": "633273fa",
    "core-32": "30556933",
    "core-33": "0cdc9100",
    "mcp-6": "665e9b0f",
    "statistics-1": "ac8e1be4",
    "core-34": "2b8676d8",
    "core-35": "230c6e39",
    "mcp-7": "4819acf5",
    "core-36": "7a32296e",
    "core-37": "b32462bd",
    "core-38": "e34e0151",
}
"""The commits that added a migration, after that of the first tables; earlier ones changed those tables in place."""
UNSETTLED = {"core-02": "e6f7cb8c", "core-03-unsettled": "a98f32f1", "core-04-unsettled": "449e5c0f"}
"""Commits from before: their files are refused."""
NODES = ("nodes", "node_commits", "node_locks", "session_requests")
UNFILLED = ("removals", "changed_items", "knowledge_blobs", *NODES)
"""Tables whose rows are work to do, which a row without its item would break, and those that SQLite has empty."""

API = "/api/v1"
AGENT = {
    "model": "demo",
    "system": "You keep the shop.",
    "tools": ["current_time"],
    "confirm_before": ["current_time"],
    "can_spawn": ["demo"],
}
MCP = {"name": "far", "type": "http", "url": "http://127.0.0.1:9/mcp"}
BUDGET = {"name": "small", "window": "day", "tokens": 100000}
WEBHOOK = {"name": "hook", "agent": "demo", "title": "From outside", "secret": "a secret of the webhook"}
CONFIGURATION: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/models", {"name": "paid", "type": "openai_compatible", "model_name": "paid", "api_key": "sk-of-the-shop",
                         "base_url": "http://127.0.0.1:9/v1"}),
    ("POST", "/agents", {"name": "clerk", **AGENT}),
    ("POST", "/agents/clerk/capabilities", {"type": "memory", "config": {"max_entries": 50}}),
    ("POST", "/schemas", {"name": "desk", "entry_agent": "clerk", "chat_enabled": True}),
    ("POST", "/schemas/desk/agent-relations", {"source": "clerk", "target": "demo"}),
    ("PUT", "/settings/custom.shop", {"value": "open"}),
    ("POST", "/auth/tokens", {"name": "app", "scopes": ["chat"]}),
    ("POST", "/tools", {"name": "stock", "description": "Counts.", "method": "GET",
                        "url": "http://127.0.0.1:9/stock"}),
    ("POST", "/mcp-servers", MCP),
    ("POST", "/rate-limits", {"name": "fair", "per": "subject", "tiers": {"default": {"requests": 1000}}}),
    ("POST", "/knowledge-bases", {"name": "manual"}),
    ("POST", "/schedules", {"name": "nightly", "cron": "0 3 * * *", "agent": "demo", "title": "Count the stock"}),
    ("POST", "/webhooks", WEBHOOK),
    ("POST", "/budgets", BUDGET),
    ("POST", "/callbacks", {"name": "tell", "url": "https://example.com/hook", "events": ["approval.waiting"]}),
    ("PUT", "/agents/clerk", {"system": "You keep the shop well."}),
)  # fmt: skip
USE: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/schemas/demo/chat", {"message": "What do you sell?", "stream": False}),
    ("POST", "/schemas/demo/chat", {"message": "Call current_time, please", "stream": False}),
    ("POST", "/schemas/desk/chat", {"message": 'memory_store {"content": "The shop opens at nine"}', "stream": False}),
    ("POST", "/tasks", {"agent": "demo", "title": "Sweep the floor", "description": "All of it"}),
    ("POST", "/tasks", {"agent": "demo", "title": "Paint the door", "require_approval": True}),
)
QUESTION = {"message": "Call current_time, please"}


def main() -> None:
    """Makes the databases that the arguments name, and packs them with those that are there."""
    names = sys.argv[1:] or [*COMMITS, *UNSETTLED]
    kept: dict[str, bytes] = {}
    if ARCHIVE.exists():
        with tarfile.open(ARCHIVE) as archive:
            kept = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    for name in names:
        kept = {member: content for member, content in kept.items() if not member.startswith(f"{name}/")}
        kept |= {f"{name}/{file}": content for file, content in made(name, {**COMMITS, **UNSETTLED}[name]).items()}
    ARCHIVE.parent.mkdir(exist_ok=True)
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for name, content in sorted(kept.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    print(f"{len(kept)} files, {ARCHIVE.stat().st_size:,} bytes")


def made(name: str, commit: str) -> dict[str, bytes]:
    """Database and uploads of a commit's code, as an engine leaves them that was stopped."""
    with tempfile.TemporaryDirectory() as folder:
        tree, data = Path(folder) / "tree", Path(folder) / "data"
        check_out(commit, tree)
        (data / "keys").mkdir(parents=True)
        (data / "keys" / "secrets.key").write_text(f"{KEY}\n", encoding="utf-8")
        with served(tree, data) as client:
            refused = use(client, data)
        path = data / "bytebrew.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            filled = [table for table in empty(conn) if fill(conn, table)]
            wrong = conn.execute("pragma foreign_key_check").fetchall() or empty(conn)
            conn.execute("vacuum")
            conn.execute("pragma wal_checkpoint(truncate)")
        print(f"{name} {commit}: refused {refused}; filled {filled}; left {wrong}", flush=True)
        uploads = [one for one in (data / "files").rglob("*") if one.is_file()]
        return {str(one.relative_to(data)): one.read_bytes() for one in (path, *uploads)}


def check_out(commit: str, tree: Path) -> None:
    """The commit's code in a folder, with the metadata that an installation would have."""
    tree.mkdir()
    packed = subprocess.run(
        ["git", "archive", commit, "bytebrew", "plugins", "pyproject.toml"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tree, filter="data")
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = tree / f"bytebrew-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bytebrew\nVersion: {project['version']}\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in one.items()) for group, one in points(project)]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


def points(project: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """The groups of a project's entry points."""
    yield "console_scripts", project["scripts"]
    yield from project["entry-points"].items()


@contextmanager
def served(tree: Path, data: Path) -> Iterator[httpx.Client]:
    """A client of an engine of this code, which is stopped at the end."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tree}:{tree / 'plugins'}",
        "BYTEBREW_DATA_DIR": str(data),
        "BYTEBREW_PORT": "0",
    }
    command = [sys.executable, "-m", "bytebrew", "serve"]
    with (data / "log").open("w") as log:
        engine = subprocess.Popen(command, env=env, cwd=data, stdout=subprocess.PIPE, stderr=log, text=True)
        assert engine.stdout
        try:
            ready = engine.stdout.readline()
            if not ready:
                raise SystemExit((data / "log").read_text())
            limits = httpx.Limits(max_keepalive_connections=0)  # early servers close idle connections at once
            with httpx.Client(base_url=ready.split()[-1], timeout=15, limits=limits) as client:
                yield client
        finally:
            engine.terminate()
            engine.wait(30)


def use(client: httpx.Client, data: Path) -> list[str]:
    """Configures an engine and uses it as a person would; returns what its API did not take."""
    proof = {}
    with suppress(FileNotFoundError):
        proof = {"authorization": f"Bearer {(data / 'local-session.token').read_text().strip()}"}
    session = client.post(f"{API}/auth/local-session", headers=proof).raise_for_status().json()
    client.headers["authorization"] = f"Bearer {session['access_token']}"
    refused: list[str] = []
    keys = count()

    def send(method: str, path: str, body: Any) -> httpx.Response:
        response = client.request(method, API + path, json=body, headers={"idempotency-key": f"step-{next(keys)}"})
        if response.is_error:
            refused.append(f"{path} {response.status_code} {response.text[:120]}")
        return response

    for step in CONFIGURATION:
        send(*step)
    bases = client.get(f"{API}/knowledge-bases").json()
    bases = bases if isinstance(bases, list) else bases.get("data", [])
    for base in bases:
        files = {"file": ("hours.txt", b"The shop opens at nine.", "text/plain")}
        client.post(f"{API}/knowledge-bases/{base['id']}/files", files=files)
        client.post(f"{API}/knowledge-bases/{base['id']}/agents/clerk")
        while b'"indexing"' in client.get(f"{API}/knowledge-bases/{base['id']}/files").content:
            time.sleep(0.1)
    answers = [send(*step) for step in USE]
    for answer in answers[:2]:
        answer.raise_for_status()
    ask(client)
    first = answers[0].json()
    for path, body in (
        (f"/sessions/{first.get('session_id')}/fork", {}),
        ("/replays", {"sessions": [first.get("session_id")], "agent": "clerk"}),
    ):
        send("POST", path, body)
    return refused


def ask(client: httpx.Client) -> None:
    """A turn that waits for a person until the engine stops."""
    with client.stream("POST", f"{API}/schemas/desk/chat", json=QUESTION) as response:
        for line in response.iter_lines():
            if line.startswith("event: confirmation") or '"confirmation"' in line:
                return


def empty(conn: sqlite3.Connection) -> list[str]:
    """The tables without a row, but for those that SQLite keeps itself and those that triggers write."""
    tables = conn.execute("select name, sql from sqlite_master where type = 'table' and name not like 'sqlite_%'")
    virtual = tuple(name for name, sql in tables.fetchall() if sql.lower().startswith("create virtual"))
    names = [name for (name,) in conn.execute("select name from sqlite_master where type = 'table'")]
    left = ("sqlite_", *UNFILLED, *(f"{one}_" for one in virtual))
    own = [name for name in names if not name.startswith(left) and name not in virtual]
    return [name for name in own if conn.execute(f'select 1 from "{name}" limit 1').fetchone() is None]


def fill(conn: sqlite3.Connection, table: str) -> bool:
    """Adds a row to an empty table, with values of its columns' types and of the rows that it refers to."""
    parents = {row[3]: (row[2], row[4]) for row in conn.execute(f'pragma foreign_key_list("{table}")')}
    values: dict[str, Any] = {}
    for _, column, kind, needed, default, key in conn.execute(f'pragma table_info("{table}")'):
        if column in parents:
            other, field = parents[column]
            row = conn.execute(f'select "{field or "rowid"}" from "{other}" limit 1').fetchone()
            values[column] = row[0] if row else None
        elif (needed or key) and default is None:
            values[column] = {"INTEGER": 1, "REAL": 1.5, "BLOB": b"\x01", "TEXT": "kept", "": "kept"}[kind.upper()]
    names, marks = ", ".join(f'"{name}"' for name in values), ", ".join("?" for _ in values)
    try:
        conn.execute(f'insert into "{table}" ({names}) values ({marks})', [*values.values()])
    except sqlite3.Error as error:
        print(f"  {table}: {error} {json.dumps(values, default=str)}")
        return False
    return True


if __name__ == "__main__":
    main()
