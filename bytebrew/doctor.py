"""What `bytebrew doctor` looks at; it changes nothing."""

import socket
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bytebrew.errors import BootError, EngineError
from bytebrew.plugins import Plugins
from bytebrew.secrets import Secrets
from bytebrew.settings import Core


class Finding(NamedTuple):
    """One thing that was looked at, whether it is fine, and what to know or do."""

    what: str
    fine: bool
    words: str


def examine(core: Core, plugins: Plugins) -> list[Finding]:
    """Everything that was looked at, in order."""
    loaded = [plugin.name for plugin in plugins.list_all() if plugin.state == "loaded"]
    findings = [Finding("plugins", True, f"{len(loaded)} loaded: {', '.join(loaded)}"), _port(core)]
    if not core.data_dir.is_dir():
        return [*findings, Finding("data", True, f"{core.data_dir} is not there yet; `bytebrew serve` makes it")]
    return [*findings, *_rights(core.data_dir), *_database(core.data_dir)]


def _port(core: Core) -> Finding:
    with closing(socket.socket(socket.AF_INET6 if ":" in core.host else socket.AF_INET)) as probe:
        probe.settimeout(1)
        taken = probe.connect_ex((core.host, core.port)) == 0
    words = "something listens there: a running engine, or choose another BYTEBREW_PORT" if taken else "free"
    return Finding("port", True, f"{core.host}:{core.port} {words}")


def _rights(data: Path) -> Iterator[Finding]:
    private = [path for path in data.rglob("*") if path.suffix != ".pub"]
    for path in (data, *private):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            wanted = "700" if path.is_dir() else "600"
            yield Finding("rights", False, f"{path} is open to others ({mode:o}); run chmod {wanted} {path}")
    yield Finding("rights", True, f"{len(private) + 1} files and folders looked at")


def _database(data: Path) -> Iterator[Finding]:
    path = data / "bytebrew.db"
    if not path.exists():
        yield Finding("database", True, f"{path} is not there yet; `bytebrew serve` makes it")
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as conn:
            faults = [row[0] for row in conn.execute("pragma integrity_check")]
            orphans = conn.execute("pragma foreign_key_check").fetchall()
            sealed = [row[0] for row in conn.execute("select sealed_key from models where length(sealed_key) > 0")]
    except sqlite3.Error as error:
        yield Finding("database", False, f"{path} cannot be read ({error}); restore it from a backup")
        return
    fault = faults[0] if faults != ["ok"] else f"{len(orphans)} rows point at nothing" if orphans else ""
    words = f"{path} is damaged ({fault}); restore it from a backup" if fault else f"{path} is whole"
    yield Finding("database", not fault, words)
    yield _keys(data / "keys" / "secrets.key", sealed)


def _keys(path: Path, sealed: list[bytes]) -> Finding:
    if not path.exists():
        words = f"{path} is missing; restore it, or the {len(sealed)} stored credentials are lost"
        return Finding("keys", not sealed, words if sealed else f"{path} is not there yet; `bytebrew serve` makes it")
    try:
        secrets = Secrets.load(path)
        for blob in sealed:
            secrets.open(blob)
    except (BootError, EngineError) as error:
        return Finding("keys", False, str(error))
    return Finding("keys", True, f"{path} opens all {len(sealed)} stored credentials")
