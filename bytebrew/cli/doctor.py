"""`bytebrew doctor`: checks the installation and the data folder, and changes neither."""

import errno
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib.metadata import requires
from pathlib import Path

import click

from bytebrew import plugin_lock
from bytebrew.base.errors import BootError, EngineError, StorageError
from bytebrew.base.machine.lock import held, held_folder
from bytebrew.base.progress import Progress
from bytebrew.base.secrets import Secrets
from bytebrew.base.settings import Core
from bytebrew.cli.setup import Setup
from bytebrew.config.import_export import lines
from bytebrew.config.validate import parse
from bytebrew.config.yaml_tree import InvalidConfig, contents
from bytebrew.contract.storage.store import Finding
from bytebrew.engine import Engine
from bytebrew.requirements import lacking
from bytebrew.store.backups import key_check
from bytebrew.store.backups.backup import restore_waits
from bytebrew.store.sqlite import integrity
from bytebrew.store.sqlite.epoch import reading
from bytebrew.store.sqlite.migrate import check


@click.command()
@click.pass_obj
def doctor(setup: Setup) -> None:
    """Check plugins, port, file rights, database and keys, and try on the disk what `serve` needs."""
    checks = _checks(setup)
    for name, passed, message in checks:
        click.echo(f"{'ok ' if passed else 'BAD'} {name}: {message}")
    if not all(passed for _, passed, _ in checks):
        sys.exit(1)


def _checks(setup: Setup) -> list[Finding]:
    core, data = setup.core(), setup.core().data_dir
    checks = [*_plugins(setup), _port(core)]
    if barred := _unwritable_reason(data):
        return [*checks, barred]
    checks += _serving(core, setup.environment)
    if not data.exists() and not core.database_url:
        return [*checks, Finding("data", True, f"{data} is not there yet; `bytebrew serve` makes it")]
    if restore_waits(data):
        message = "a restore has not put all in place yet; the next start of the engine brings it to its end"
        return [*checks, *_rights(data), Finding("restore", False, message)]
    if core.database_url:
        return [*checks, *_rights(data), *_server(setup)]
    return [*checks, *_rights(data), *_database(data, setup.migrations())]


def _plugins(setup: Setup) -> Iterator[Finding]:
    warnings = setup.warnings()
    loaded = [plugin.name for plugin in setup.plugins.list_all() if plugin.state == "loaded"]
    yield Finding("plugins", True, f"{len(loaded)} loaded: {', '.join(loaded)}")
    for warning in warnings:
        yield Finding("plugins", False, warning)
    folder = setup.core().plugins_dir
    if folder is not None and (lock := plugin_lock.read(folder)):
        names = ", ".join(f"{one.name} {one.version}" for one in lock.distribution) or "nothing"
        yield Finding("plugins.lock", True, f"{folder} holds what is locked: {names}")
    for problem in lacking(requires("bytebrew") or ()):
        yield Finding("packages", False, f"bytebrew {problem}; install it again")


def _port(core: Core) -> Finding:
    where = f"{core.host}:{core.port}"
    with closing(socket.socket(socket.AF_INET6 if ":" in core.host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((core.host, core.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                message = "something listens there: a running engine, or choose another BYTEBREW_PORT"
                return Finding("port", True, f"{where} {message}")
            message = f"cannot be listened on ({error.strerror}); choose another BYTEBREW_HOST or BYTEBREW_PORT"
            return Finding("port", False, f"{where} {message}")
    return Finding("port", True, f"{where} free")


def _unwritable_reason(data: Path) -> Finding | None:
    """Why this user cannot write to the data folder or create it, if so."""
    folder = nearest(data)
    if not folder.is_dir():
        return Finding("data", False, f"{folder} is no folder; choose another BYTEBREW_DATA_DIR")
    for path in (folder, data / "bytebrew.db", data / "engine.lock"):
        if not os.access(path, os.R_OK | os.W_OK) and (path == folder or path.exists()):
            message = f"this user cannot read and write {path}; see to its owner, its rights and its disk"
            return Finding("data", False, f"{message}, or choose another BYTEBREW_DATA_DIR")
    return None


def nearest(data: Path) -> Path:
    """The data folder, or its nearest existing parent."""
    return next(path for path in (data, *data.absolute().parents) if os.access(path, os.F_OK))


def _serving(core: Core, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Repeats the steps of `serve` before it listens, in a temporary folder on the same disk."""
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=nearest(core.data_dir)) as scratch:
            engine = Engine({**environment, "BYTEBREW_DATA_DIR": scratch, "BYTEBREW_DATABASE_URL": ""})
            with held_folder(engine.data_dir), held(engine.folder.database), engine.migrated() as conn:
                integrity.sort_on_disk(conn)
            if core.config is not None:
                yield _config(core.config, engine)
    except (BootError, StorageError, OSError) as error:
        yield Finding("serve", False, f"cannot start with its data on the disk of {core.data_dir}: {error}")
    else:
        yield Finding("serve", True, f"keys, locks, tables and large sorts work on the disk of {core.data_dir}")


def _config(file: Path, engine: Engine) -> Finding:
    try:
        raw = contents(file, engine.settings.core.max_body_bytes)
        if problems := parse(raw, engine.sections, engine.dialects).problems:
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
            status = path.stat()
        except FileNotFoundError:  # a running engine has deleted it
            continue
        mode, ours = stat.S_IMODE(status.st_mode), status.st_uid == os.geteuid()
        wanted = ("700" if stat.S_ISDIR(status.st_mode) else "600") if ours else "o-w"
        if mode & (0o077 if ours else 0o002):  # another user's volume may be open to its group
            cure = f"run chmod {wanted} {path}" if ours else f"have its owner, uid {status.st_uid}, run chmod {wanted}"
            yield Finding("rights", False, f"{path} is open to others ({mode:o}); {cure}")
    yield Finding("rights", True, f"{len(private) + 1} files and folders looked at")


def _database(data: Path, owners: Mapping[str, Sequence[tuple[int, str]]]) -> Iterator[Finding]:
    path = data / "bytebrew.db"
    if not path.exists():
        yield Finding("database", True, f"{path} is not there yet; `bytebrew serve` makes it")
        return
    try:
        with Progress("checking the database") as progress, reading(path, progress.beat) as conn:
            damage = integrity.damage(conn)
            credentials = [*key_check.every(conn)]
            check(conn, owners)
    except StorageError as error:
        yield Finding("database", False, f"{path} cannot be read ({error}); restore it from a backup")
        return
    except BootError as error:
        yield Finding("database", False, f"{path}: {error}")
        return
    message = f"{path} is damaged ({damage}); restore it from a backup" if damage else f"{path} is whole"
    yield Finding("database", not damage, message)
    yield _keys(data / "keys" / "secrets.key", credentials)


def _server(setup: Setup) -> Iterator[Finding]:
    """Checks the database of BYTEBREW_DATABASE_URL, from the outside."""
    folder = nearest(setup.core().data_dir)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as scratch:  # an engine makes its data folder
            engine = Engine({**setup.environment, "BYTEBREW_DATA_DIR": scratch})
    except (BootError, OSError) as error:
        yield Finding("database", False, f"the engine cannot be set up: {error}")
        return
    driver = engine.driver
    try:
        with closing(driver.open(read_only=True)) as conn:
            findings = [*driver.examine(conn, engine.migrations)]
            yield from findings
            if all(passed for _, passed, _ in findings):
                yield _keys(setup.core().data_dir / "keys" / "secrets.key", [*key_check.every(conn)])
    except driver.error as error:
        reason = " ".join(str(error).split())
        yield Finding("database", False, f"{driver.place}: {driver.fault(error) or 'it cannot be examined'} ({reason})")


def _keys(path: Path, credentials: Sequence[bytes]) -> Finding:
    count = len(credentials)
    if not path.exists():
        message = f"{path} is missing; restore it, or the {count} stored credentials are lost"
        return Finding("keys", not count, message if count else f"{path} is not there yet; `bytebrew serve` makes it")
    try:
        secrets = Secrets.load(path)
        for credential in credentials:
            secrets.open(credential)
    except (BootError, EngineError) as error:
        return Finding("keys", False, str(error))
    return Finding("keys", True, f"{path} opens all {count} stored credentials")
