"""What `bytebrew doctor` looks at, and tries as `serve` does it; it leaves everything as it was."""

import errno
import os
import socket
import sqlite3
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib.metadata import requires
from pathlib import Path
from typing import NamedTuple

from bytebrew.base.errors import BootError, EngineError
from bytebrew.base.machine.lock import held
from bytebrew.base.progress import Progress
from bytebrew.base.secrets import Secrets
from bytebrew.base.settings import Core
from bytebrew.config.import_export import lines
from bytebrew.config.validate import parse
from bytebrew.config.yaml_tree import InvalidConfig, contents
from bytebrew.engine import Engine
from bytebrew.plugins import Plugins
from bytebrew.requirements import lacking
from bytebrew.store.backups import key_check
from bytebrew.store.backups.backup import restore_waits
from bytebrew.store.sqlite import migrations
from bytebrew.store.sqlite.epoch import uri_to_read
from bytebrew.store.sqlite.migrate import check

_LARGE = """
select count(*) from (select randomblob(1000) as bytes from (
  with recursive numbers(n) as (select 1 union all select n + 1 from numbers limit 3000) select n from numbers
) order by bytes)
"""


class Finding(NamedTuple):
    """One thing that was looked at, whether it is fine, and what to know or do."""

    what: str
    fine: bool
    words: str


def examine(core: Core, plugins: Plugins, warnings: Sequence[str], environment: Mapping[str, str]) -> list[Finding]:
    """Everything that was looked at and tried, in order; `warnings` are those about plugins."""
    loaded = [plugin.name for plugin in plugins.list_all() if plugin.state == "loaded"]
    findings = [Finding("plugins", True, f"{len(loaded)} loaded: {', '.join(loaded)}")]
    findings += [Finding("plugins", False, words) for words in warnings]
    own = [f"bytebrew {words}; install it again" for words in lacking(requires("bytebrew") or ())]
    findings += [*(Finding("packages", False, words) for words in own), _port(core)]
    data = core.data_dir
    if barred := _barred(data):
        return [*findings, barred]
    findings += _serving(core, environment)
    if not data.exists():
        return [*findings, Finding("data", True, f"{data} is not there yet; `bytebrew serve` makes it")]
    if restore_waits(data):
        words = "a restore has not put all in place yet; the next start of the engine brings it to its end"
        return [*findings, *_rights(data), Finding("restore", False, words)]
    owners: dict[str, list[tuple[int, str]]] = {"core": [*migrations.CORE]}
    plugins.declare("register_migrations", lambda name, one: owners.setdefault(name, []).append(one))
    return [*findings, *_rights(data), *_database(data, owners)]


def _port(core: Core) -> Finding:
    where = f"{core.host}:{core.port}"
    with closing(socket.socket(socket.AF_INET6 if ":" in core.host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((core.host, core.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                words = "something listens there: a running engine, or choose another BYTEBREW_PORT"
                return Finding("port", True, f"{where} {words}")
            words = f"cannot be listened on ({error.strerror}); choose another BYTEBREW_HOST or BYTEBREW_PORT"
            return Finding("port", False, f"{where} {words}")
    return Finding("port", True, f"{where} free")


def _barred(data: Path) -> Finding | None:
    """What keeps this user from writing to the data folder, or from making it."""
    folder = nearest(data)
    if not folder.is_dir():
        return Finding("data", False, f"{folder} is no folder; choose another BYTEBREW_DATA_DIR")
    for path in (folder, data / "bytebrew.db", data / "engine.lock"):
        if not os.access(path, os.R_OK | os.W_OK) and (path == folder or path.exists()):
            words = f"this user cannot read and write {path}; see to its owner, its rights and its disk"
            return Finding("data", False, f"{words}, or choose another BYTEBREW_DATA_DIR")
    return None


def nearest(data: Path) -> Path:
    """The data folder, or the folder in which it is to be made."""
    return next(path for path in (data, *data.absolute().parents) if os.access(path, os.F_OK))


def _serving(core: Core, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Does on the disk of the data folder, in a folder of its own, what `serve` does there before it listens."""
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=nearest(core.data_dir)) as scratch:
            engine = Engine({**environment, "BYTEBREW_DATA_DIR": scratch})
            with held(engine.data_dir, engine.db.path), engine.migrated() as conn:
                conn.execute(_LARGE)
            if core.config is not None:
                yield _config(core.config, engine)
    except (BootError, OSError, sqlite3.Error) as error:
        yield Finding("serve", False, f"cannot start with its data on the disk of {core.data_dir}: {error}")
    else:
        yield Finding("serve", True, f"keys, locks, tables and large sorts work on the disk of {core.data_dir}")


def _config(file: Path, engine: Engine) -> Finding:
    try:
        if problems := parse(contents(file, engine.settings.core.max_body_bytes), engine.sections).problems:
            raise InvalidConfig(problems)
    except InvalidConfig as error:
        return Finding("config", False, "; ".join([f"{file} does not fit", *lines(file, error.details)]))
    except EngineError as error:
        return Finding("config", False, f"BYTEBREW_CONFIG: {error.message}")
    return Finding("config", True, f"{file} can be read")


def _rights(data: Path) -> Iterator[Finding]:
    private = [path for path in data.rglob("*") if path.suffix != ".pub"]
    for path in (data, *private):
        try:
            found = path.stat()
        except FileNotFoundError:  # a running engine has removed it
            continue
        mode, ours = stat.S_IMODE(found.st_mode), found.st_uid == os.geteuid()
        wanted = ("700" if stat.S_ISDIR(found.st_mode) else "600") if ours else "o-w"
        if mode & (0o077 if ours else 0o002):  # of another's volume only what is within is ours, and closed
            cure = f"run chmod {wanted} {path}" if ours else f"have its owner, uid {found.st_uid}, run chmod {wanted}"
            yield Finding("rights", False, f"{path} is open to others ({mode:o}); {cure}")
    yield Finding("rights", True, f"{len(private) + 1} files and folders looked at")


def _database(data: Path, owners: Mapping[str, Sequence[tuple[int, str]]]) -> Iterator[Finding]:
    path = data / "bytebrew.db"
    if not path.exists():
        yield Finding("database", True, f"{path} is not there yet; `bytebrew serve` makes it")
        return
    try:
        with (
            closing(sqlite3.connect(uri_to_read(path), uri=True, timeout=60)) as conn,
            Progress("checking the database") as progress,
        ):
            conn.set_progress_handler(progress.beat, 100_000)
            faults = [row[0] for row in conn.execute("pragma integrity_check")]
            orphans = conn.execute("pragma foreign_key_check").fetchall()
            credentials = [*key_check.every(conn)]
            check(conn, owners)
    except sqlite3.Error as error:
        yield Finding("database", False, f"{path} cannot be read ({error}); restore it from a backup")
        return
    except BootError as error:
        yield Finding("database", False, f"{path}: {error}")
        return
    fault = faults[0] if faults != ["ok"] else f"{len(orphans)} rows point at nothing" if orphans else ""
    words = f"{path} is damaged ({fault}); restore it from a backup" if fault else f"{path} is whole"
    yield Finding("database", not fault, words)
    yield _keys(data / "keys" / "secrets.key", credentials)


def _keys(path: Path, credentials: Sequence[bytes]) -> Finding:
    count = len(credentials)
    if not path.exists():
        words = f"{path} is missing; restore it, or the {count} stored credentials are lost"
        return Finding("keys", not count, words if count else f"{path} is not there yet; `bytebrew serve` makes it")
    try:
        secrets = Secrets.load(path)
        for credential in credentials:
            secrets.open(credential)
    except (BootError, EngineError) as error:
        return Finding("keys", False, str(error))
    return Finding("keys", True, f"{path} opens all {count} stored credentials")
