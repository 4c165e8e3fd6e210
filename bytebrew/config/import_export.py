"""Exports the configuration as a YAML file with all secrets masked, and imports it in one transaction."""

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio.to_thread
import msgspec
from msgspec import UNSET, Struct

from bytebrew.base.env_variables import escaped, placeholder, variable, variables_in
from bytebrew.base.errors import EngineError, Forbidden, InvalidRequest, SettingsError, Unprocessable
from bytebrew.base.masking import MASK
from bytebrew.base.validation import plain_json, same_json
from bytebrew.config.validate import Content, Item, parse, unchanged
from bytebrew.config.versions import ENGINE, keep_all
from bytebrew.config.yaml_tree import InvalidConfig, Problems, contents, write
from bytebrew.contract.auth import Actor
from bytebrew.contract.configuration.config_dialect import ConfigDialect, Node, Problem
from bytebrew.contract.configuration.config_section import ConfigSection, ManagedBy
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine, StateKey
from bytebrew.contract.route import Record, check_name, unrecorded

log = logging.getLogger(__name__)

HEADER = """\
# The configuration of a ByteBrew engine. Credentials are ${VAR}, read from the environment of the engine.
# Take it in with POST /api/v1/config/import or `bytebrew config import`.
"""
OPERATOR = Actor(subject="operator", name="operator", kind="token", scopes=frozenset({"admin"}))
"""The actor of changes at boot and from the command line."""
State = Mapping[str, Mapping[str, Any]]
MANAGED: StateKey[Mapping[tuple[str, str], ManagedBy]] = StateKey("items of the configuration file")
"""The items of BYTEBREW_CONFIG by section and name."""


class PreconditionFailed(EngineError):
    """The stored configuration is not the version that the client expects."""

    status = 412
    code = "precondition_failed"


class FieldChange(Struct, frozen=True):
    """A field that differs; credentials are masked."""

    field: str
    before: Any
    after: Any


class Change(Struct, frozen=True):
    """The change of one item."""

    section: str
    name: str
    action: Literal["create", "update", "unchanged", "delete"]
    fields: tuple[FieldChange, ...] = ()


class Plan(Struct, frozen=True):
    """The changes of an import; `imported` counts a section's items in the file, changed or not."""

    imported: dict[str, int]
    changes: tuple[Change, ...]
    warnings: tuple[Problem, ...]
    version: str


class ConfiguredEngine(Engine, Protocol):
    """An engine with the sections of its configuration."""

    @property
    def sections(self) -> Mapping[str, ConfigSection]:
        """The sections by key."""

    @property
    def dialects(self) -> Sequence[ConfigDialect]:
        """Other formats of the file."""

    @property
    def taken(self) -> Mapping[str, frozenset[str]]:
        """By the path of a collection, the names that items cannot have there."""


def ordered(engine: ConfiguredEngine) -> list[ConfigSection]:
    """The sections in the order in which they are applied and written."""
    ranks = {"models": 0, "agents": 2, "schemas": 3, "settings": 4}
    by_key = sorted(engine.sections.values(), key=lambda section: section.key)
    return sorted(by_key, key=lambda section: ranks.get(section.key, 1 if section.after == "models" else 5))


def state(conn: Connection, engine: ConfiguredEngine) -> State:
    """The whole configuration by section and name, with credentials in plain text."""
    return {one.key: plain_json(one.export(conn, engine)) for one in ordered(engine)}


def masked(engine: ConfiguredEngine, whole: State) -> dict[str, dict[str, Any]]:
    """The same with `${VAR}` in place of each credential, and without empty sections."""
    taken = set(variables_in(msgspec.json.encode(whole).decode()))  # names that other values use

    def shown(section: ConfigSection, name: str, path: tuple[str, ...], value: Any) -> Any:
        if isinstance(value, dict):
            inner = {key: shown(section, name, (*path, key), one) for key, one in value.items()}
            return {key: one for key, one in inner.items() if one is not UNSET}
        if isinstance(value, list):
            return [shown(section, name, (*path, str(n)), one) for n, one in enumerate(value)]
        if not isinstance(value, str):
            return value
        if section.is_secret(path):
            nothing = "" if section.is_secret((*path[:-1], "")) else UNSET  # a variable of `env.*` may be empty
            return (placeholder(value) or variable((name, *path), taken)) if value else nothing
        return value if section.keeps_variables else escaped(value)

    sections = {one.key: one for one in ordered(engine)}
    return {
        key: {name: shown(sections[key], name, (), value) for name, value in items.items()}
        for key, items in whole.items()
        if items
    }


def version(shown: Mapping[str, Any]) -> str:
    """The version of a masked configuration: a digest, equal for equal files."""
    return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:32]


def export(conn: Connection, engine: ConfiguredEngine) -> tuple[dict[str, Any], str]:
    """The masked configuration and its version."""
    shown = masked(engine, state(conn, engine))
    return shown, version(shown)


def may_see(actor: Actor, section: ConfigSection) -> bool:
    """Whether the scope `config` is enough to export and import the section."""
    return actor.is_admin or section.scope in ("config", *actor.scopes)


def text_of(shown: Mapping[str, Any]) -> str:
    """The file as text."""
    return HEADER + write(shown)


def apply(
    conn: Connection,
    engine: ConfiguredEngine,
    content: Content,
    actor: Actor = OPERATOR,
    *,
    replace: bool = False,
    dry_run: bool = False,
    expected: Collection[str] = (),
) -> Plan:
    """Merges a file into the tables within an open transaction; `dry_run` only returns the plan.

    With `replace`, sections in the file are replaced, except credentials. Raises InvalidConfig with every problem, and
    PreconditionFailed if the version is none of the expected ones; then nothing changes.
    """
    if not dry_run:
        keep_all(conn, engine, engine.sections, ENGINE)  # what is there, in a file from before it had versions
    before = state(conn, engine)
    now = version(masked(engine, before))
    if expected and now not in expected:
        raise PreconditionFailed(
            f"The configuration is of version {now}; export it again", headers={"ETag": f'"{now}"'}
        )
    keep = False
    conn.execute("savepoint config")
    try:
        applying = _Applying(conn, engine, content, actor)
        for section in ordered(engine):
            if section.key in content.items:  # the current state: an earlier section may have changed it
                applying.section(section, plain_json(section.export(conn, engine)), replace)
        if replace:
            for section in reversed(ordered(engine)):
                applying.prune(section, before[section.key])
        warnings = applying.warnings()
        if applying.problems:
            raise InvalidConfig(applying.problems)
        after = state(conn, engine)
        if not dry_run:
            keep_all(conn, engine, engine.sections, actor)
        keep = not dry_run
    finally:
        if conn.in_transaction:  # a fault of the database file ends the transaction
            if not keep:
                conn.execute("rollback to config")
            conn.execute("release config")
    return Plan(
        imported={section.key: len(content.items.get(section.key, ())) for section in ordered(engine)},
        changes=tuple(_changes(engine, content, before, after)),
        warnings=tuple(warnings),
        version=now if dry_run else version(masked(engine, after)),
    )


class _Applying:
    def __init__(self, conn: Connection, engine: ConfiguredEngine, content: Content, actor: Actor) -> None:
        self._conn = conn
        self._engine = engine
        self._content = content
        self._actor = actor
        self.problems = Problems(content.problems)
        self._absent: set[str] = set()  # items of earlier sections whose problems are noted already
        self._stored: list[tuple[ConfigSection, str, Item]] = []
        self._notes: list[Problem] = []

    def section(self, section: ConfigSection, old: Mapping[str, Any], replace: bool) -> None:
        """Stores the file's items of a section."""
        changed: list[tuple[str, Item]] = []
        failed: set[str] = set()
        for name, item in self._content.items.get(section.key, {}).items():
            if replace and name in old and section.item is not None:
                item = msgspec.structs.replace(item, value=section.completed(item.value))
            item = item.with_stored(section, name, old.get(name, {}), self.problems.note, self._notes.append)
            if name in old and unchanged(section, item.value, old[name]):
                self._stored.append((section, name, item))
            elif needed := [] if section.item is None or name in old else item.lacks(section.item):
                path = f"$.{section.key}.{name}"
                if not self._broken(path):
                    self.problems.note(item.place.problem(path, f"needs {' and '.join(needed)}"))
                failed.add(name)
            else:
                with self._guarded(section, name, item, failed):
                    self._check(section)
                    if name not in old:
                        check_name(name, self._engine.taken.get(section.path, frozenset()))
                    section.put(self._conn, self._engine, self._actor, name, item.sent)
                    changed.append((name, item))
                    self._stored.append((section, name, item))
        self._absent |= failed
        for name, item in changed:
            with self._guarded(section, name, item, failed):
                section.link(self._conn, self._engine, name, item.sent)

    def prune(self, section: ConfigSection, old: Mapping[str, Any]) -> None:
        """Deletes the items that are not in the file, if the section is."""
        if place := self._content.places.get(section.key):
            gone = [name for name in old if name not in self._content.items.get(section.key, {})]
            whole = Item(place, Node(None, place), None)
            for name in gone:
                section.unlink(self._conn, self._engine, name)
            for name in gone:
                with self._guarded(section, name, whole, set()):
                    self._check(section)
                    section.delete(self._conn, self._engine, name)

    def _broken(self, path: str) -> bool:
        """Whether a problem below the path is noted already, which explains later ones."""
        return any(one.path.startswith((f"{path}.", f"{path}[")) for one in self._content.problems)

    def _check(self, section: ConfigSection) -> None:
        if not may_see(self._actor, section):
            raise Forbidden(f"Only callers with the scope '{section.scope}' may change {section.key}")

    def warnings(self) -> list[Problem]:
        """The warnings of the import, then those of the imported items."""
        for section, name, item in self._stored:
            with self._guarded(section, name, item, set()):
                for words in section.warnings(self._conn, self._engine, name):
                    self._notes.append(item.place.problem(f"$.{section.key}.{name}", words))
        return [*self._content.warnings, *self._notes]

    @contextmanager
    def _guarded(self, section: ConfigSection, name: str, item: Item, failed: set[str]) -> Iterator[None]:
        """A savepoint; an error in it becomes problems with positions, unless it follows from an earlier problem."""
        self._conn.execute("savepoint item")
        try:
            yield
        except (EngineError, OverflowError) as caught:  # a column has 64 bits, Python's integers may have more
            error = caught if isinstance(caught, EngineError) else InvalidRequest("A number of it is too large")
            self._conn.execute("rollback to item")
            failed.add(name)
            path = f"$.{section.key}.{name}"
            located = [(one.path, one.message) for one in error.details] if item.value is not None else []
            for inner, words in located or [("$", error.message)]:
                spot = item.spot(inner, section.aliases)
                whole = spot is item.node
                absent = isinstance(spot.value, str) and spot.value in self._absent
                if whole or not (absent or self._broken(path + inner[1:])):
                    text = words if len(error.details) > 1 or item.value is None else error.message
                    place = item.place if whole else spot.place
                    self.problems.note(place.problem(f"{path}{inner[1:]}", text[:500].rstrip(".")))
        self._conn.execute("release item")  # after any other error all of the import is rolled back


def _changes(engine: ConfiguredEngine, content: Content, before: State, after: State) -> Iterator[Change]:
    for section in ordered(engine):
        old, new = before[section.key], after[section.key]
        for name in dict.fromkeys([*content.items.get(section.key, ()), *old]):
            if name in old and name not in new:
                yield Change(section.key, name, "delete")
            elif name in new and name not in old:
                yield Change(section.key, name, "create")
            elif name in new and not same_json(old[name], new[name]):
                yield Change(section.key, name, "update", tuple(_differences(section, old[name], new[name])))
            elif name in content.items.get(section.key, ()):
                yield Change(section.key, name, "unchanged")


def _differences(section: ConfigSection, old: Any, new: Any) -> Iterator[FieldChange]:
    if section.item is None:
        yield FieldChange("", old, new)
        return
    for field in dict.fromkeys([*old, *new]):
        if not same_json(old.get(field), new.get(field)):
            shown = (MASK, MASK) if field in section.secret_fields else (old.get(field), new.get(field))
            yield FieldChange(field, *shown)


async def take_in(
    engine: ConfiguredEngine, raw: bytes, actor: Actor = OPERATOR, *, record: Record = unrecorded, **options: Any
) -> Plan:
    """Imports a file and reconnects changed sections; the options and errors are those of `apply`.

    `record` receives the Plan.
    """
    content = await _parsed(engine, raw)
    plan = await _applied(engine, content, actor, record, **options)
    if not options.get("dry_run"):
        await reconnect(engine, {change.section for change in plan.changes if change.action != "unchanged"})
    return plan


async def _parsed(engine: ConfiguredEngine, raw: bytes) -> Content:
    return await anyio.to_thread.run_sync(parse, raw, engine.sections, engine.dialects)


async def _applied(engine: ConfiguredEngine, content: Content, actor: Actor, record: Record, **options: Any) -> Plan:
    def work(conn: Connection) -> Plan | EngineError:
        try:
            plan = apply(conn, engine, content, actor, **options)
        except EngineError as refusal:  # an exception would repeat the whole transaction with its other writes
            return refusal
        record(conn, plan)
        return plan

    outcome = await engine.db.write(work)
    if isinstance(outcome, EngineError):
        raise outcome
    return outcome


async def reconnect(engine: ConfiguredEngine, keys: Collection[str]) -> None:
    """Lets sections reconnect; a failure is logged, because the import is committed."""
    for section in ordered(engine):
        if section.key in keys:
            try:
                await section.changed(engine)
            except Exception:
                log.exception("the section %s could not follow its change", section.key)


async def load(engine: ConfiguredEngine, path: Path, record: Record = unrecorded) -> None:
    """Imports the file of BYTEBREW_CONFIG; raises as `apply` does, and Unprocessable if it cannot be read."""
    raw = await anyio.to_thread.run_sync(contents, path, engine.settings.core.max_body_bytes)
    content = await _parsed(engine, raw)
    plan = await _applied(engine, content, OPERATOR, record)
    engine.state[MANAGED] = {
        (key, name): ManagedBy(file=path.name, line=item.place.line)
        for key, items in content.items.items()
        for name, item in items.items()
    }
    for line in lines(path, plan.warnings):
        log.warning("%s", line)


def managed_by(engine: Engine, section: str, name: str) -> ManagedBy | None:
    """Where the loaded configuration file has an item; None if it has not."""
    return engine.state[MANAGED].get((section, name)) if MANAGED in engine.state else None


async def boot(engine: ConfiguredEngine, path: Path) -> None:
    """As `load`, but raises SettingsError with the line and column of each problem."""
    try:
        await load(engine, path)
    except InvalidConfig as error:
        raise SettingsError("\n".join(lines(path, error.details))) from error
    except Unprocessable as error:
        raise SettingsError(f"BYTEBREW_CONFIG: {error.message}") from error


def lines(path: Path | str, problems: Sequence[Any]) -> list[str]:
    """One line per problem, in the format of compilers."""
    return [f"{path}:{one.line}:{one.column}: {one.path}: {one.message}" for one in problems]
