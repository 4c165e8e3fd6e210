"""The configuration as one YAML file: out with every secret masked, and in as one transaction or not at all."""

import hashlib
import logging
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread
import msgspec
from msgspec import NODEFAULT, UNSET, Struct
from msgspec.structs import fields as fields_of

from bytebrew.auth import Actor
from bytebrew.checking import STEP, Given, Parsed, parse
from bytebrew.documents import InvalidConfig, Node, Place, Problem, write
from bytebrew.errors import EngineError, SettingsError, Unprocessable
from bytebrew.sections import ConfigSection
from bytebrew.variables import escaped, expanded, placeholder

if TYPE_CHECKING:
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

HEADER = """\
# The configuration of a ByteBrew engine. Credentials are ${VAR}, read from the environment of the engine.
# Take it in with POST /api/v1/config/import or `bytebrew config import`.
"""
MASK = "***"
OPERATOR = Actor(subject="operator", name="operator", kind="token", scopes=frozenset({"admin"}))
"""Who changes things at boot and from the command line."""
State = Mapping[str, Mapping[str, Any]]


class PreconditionFailed(EngineError):
    """The configuration is not the version that the client knows."""

    status = 412
    code = "precondition_failed"


class FieldChange(Struct, frozen=True):
    """A field that differs; credentials are masked."""

    field: str
    before: Any
    after: Any


class Change(Struct, frozen=True):
    """What becomes of one item."""

    section: str
    name: str
    action: Literal["create", "update", "unchanged", "delete"]
    fields: tuple[FieldChange, ...] = ()


class Plan(Struct, frozen=True):
    """What an import does or would do; `imported` counts a section's items in the file, changed or not."""

    imported: dict[str, int]
    changes: tuple[Change, ...]
    warnings: tuple[Problem, ...]
    version: str


def ordered(engine: "Engine") -> list[ConfigSection]:
    """The sections in the order in which they are applied and written."""
    ranks = {"models": 0, "agents": 2, "schemas": 3, "settings": 4}
    return sorted(engine.sections.values(), key=lambda one: ranks.get(one.key, 1 if one.after == "models" else 5))


def state(conn: sqlite3.Connection, engine: "Engine") -> State:
    """Everything by section and name, credentials in the clear."""
    return {one.key: _plainly(one.export(conn, engine)) for one in ordered(engine)}


def _plainly(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))  # to_builtins leaves tuples


def masked(engine: "Engine", whole: State) -> dict[str, dict[str, Any]]:
    """The same with `${VAR}` in place of each credential, and without sections that are empty."""
    taken: set[str] = set()

    def shown(section: ConfigSection, name: str, path: tuple[str, ...], value: Any) -> Any:
        if isinstance(value, dict):
            inner = {key: shown(section, name, (*path, key), one) for key, one in value.items()}
            return {key: one for key, one in inner.items() if one is not UNSET}
        if isinstance(value, list):
            return [shown(section, name, (*path, str(n)), one) for n, one in enumerate(value)]
        if not isinstance(value, str):
            return value
        if section.is_secret(path):
            return (placeholder(value) or _variable((name, *path), taken)) if value else UNSET
        return value if section.keeps_variables else escaped(value)

    sections = {one.key: one for one in ordered(engine)}
    return {
        key: {name: shown(sections[key], name, (), value) for name, value in items.items()}
        for key, items in whole.items()
        if items
    }


def version(shown: Mapping[str, Any]) -> str:
    """The version of a masked configuration: equal for equal files."""
    return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:32]


def export(conn: sqlite3.Connection, engine: "Engine") -> tuple[dict[str, Any], str]:
    """The masked configuration and its version."""
    shown = masked(engine, state(conn, engine))
    return shown, version(shown)


def text_of(shown: Mapping[str, Any]) -> str:
    """The file."""
    return HEADER + write(shown)


def _variable(parts: Sequence[str], taken: set[str]) -> str:
    name = re.sub(r"[^A-Z0-9]", "_", "_".join(parts).upper())[:200]
    name = f"_{name}" if name[0].isdigit() or name.startswith("BYTEBREW_") else name
    unique, n = name, 1
    while unique in taken:
        n += 1
        unique = f"{name}_{n}"
    taken.add(unique)
    return f"${{{unique}}}"


def apply(
    conn: sqlite3.Connection,
    engine: "Engine",
    parsed: Parsed,
    actor: Actor = OPERATOR,
    *,
    replace: bool = False,
    dry_run: bool = False,
    expected: Collection[str] = (),
) -> Plan:
    """Merges a file into the tables of an open transaction, or with `dry_run` tells what would become of it.

    With `replace`, sections that the file has hold afterwards what it says and nothing else; credentials stay. Raises
    InvalidConfig with every problem, and PreconditionFailed where the version is none of the expected ones: the caller
    then rolls back.
    """
    before = state(conn, engine)
    now = version(masked(engine, before))
    if expected and now not in expected:
        raise PreconditionFailed(
            f"The configuration is of version {now}; export it again", headers={"ETag": f'"{now}"'}
        )
    conn.execute("savepoint config")
    applying = _Applying(conn, engine, parsed, actor)
    for section in ordered(engine):
        applying.section(section, before[section.key], replace)
    if replace:
        for section in reversed(ordered(engine)):
            applying.prune(section, before[section.key])
    warnings = applying.warnings()
    if applying.problems:
        raise InvalidConfig(applying.problems)
    after = state(conn, engine)
    if dry_run:
        conn.execute("rollback to config")
    conn.execute("release config")
    return Plan(
        imported={section.key: len(parsed.items.get(section.key, ())) for section in ordered(engine)},
        changes=tuple(_changes(engine, parsed, before, after)),
        warnings=tuple(warnings),
        version=now if dry_run else version(masked(engine, after)),
    )


class _Applying:
    def __init__(self, conn: sqlite3.Connection, engine: "Engine", parsed: Parsed, actor: Actor) -> None:
        self._conn = conn
        self._engine = engine
        self._parsed = parsed
        self._actor = actor
        self.problems = list(parsed.problems)
        self._absent: set[str] = set()
        self._stored: list[tuple[ConfigSection, str, Given]] = []
        self._notes: list[Problem] = []

    def section(self, section: ConfigSection, old: Mapping[str, Any], replace: bool) -> None:
        """Stores the items that the file has."""
        changed: list[tuple[str, Given]] = []
        for name, given in self._parsed.items.get(section.key, {}).items():
            if section.item is not None:
                given = Given(given.place, given.node, self._kept(section, name, given, old.get(name, {}), replace))
            if name in old and _same(given.value, old[name]):
                self._stored.append((section, name, given))
                continue
            needed = [] if section.item is None or name in old else _needed(section.item, given.value)
            if needed:
                path = f"$.{section.key}.{name}"
                broken = any(one.path.startswith(f"{path}.") for one in self.problems)
                if not broken:
                    self.problems.append(Problem(path[:300], f"needs {' and '.join(needed)}", *given.place))
                self._absent.add(name)
                continue
            with self._guarded(section, name, given):
                section.put(self._conn, self._engine, self._actor, name, given.value)
                changed.append((name, given))
                self._stored.append((section, name, given))
        for name, given in changed:
            with self._guarded(section, name, given):
                section.link(self._conn, self._engine, name, given.value)

    def prune(self, section: ConfigSection, old: Mapping[str, Any]) -> None:
        """Removes what the file does not have, if it has the section."""
        place = self._parsed.places.get(section.key)
        for name in old if place else ():
            if name not in self._parsed.items.get(section.key, {}):
                with self._guarded(section, name, Given(place or Place(1, 1), Node(None, place or Place(1, 1)), None)):
                    section.delete(self._conn, self._engine, name)

    def warnings(self) -> list[Problem]:
        """What the items that came in still lack, after what was noted on the way."""
        for section, name, given in self._stored:
            with self._guarded(section, name, given):
                for words in section.warnings(self._conn, self._engine, name):
                    self._notes.append(Problem(f"$.{section.key}.{name}"[:300], words[:500], *given.place))
        return [*self._parsed.warnings, *self._notes]

    def _kept(self, section: ConfigSection, name: str, given: Given, old: Mapping[str, Any], replace: bool) -> Any:
        """What was given, with the credentials that it does not replace, and for `replace` the defaults."""
        value: dict[str, Any] = dict(given.value)
        opened = {secret.split(".")[0] for secret in section.secrets}
        assert section.item is not None
        types = {field.encode_name: field.type for field in fields_of(section.item)}
        if replace and old:
            for field in fields_of(section.item):
                made = field.default_factory
                default = field.default if made is NODEFAULT else made()
                if field.encode_name not in value.keys() | opened and default not in (NODEFAULT, UNSET):
                    value[field.encode_name] = default

        def kept(path: tuple[str, ...], one: Any, stored: Any) -> Any:
            if isinstance(one, dict):
                there = stored if isinstance(stored, dict) else {}
                return {key: kept((*path, key), inner, there.get(key, "")) for key, inner in one.items()}
            if not isinstance(one, str) or not section.is_secret(path):
                return one
            stored = stored if isinstance(stored, str) else ""
            where = Problem(".".join(("$", section.key, name, *path))[:300], "", *given.place)
            if one and not placeholder(one) and one != stored:
                words = "is written out; write ${VAR} and keep it out of the file"
                self._notes.append(msgspec.structs.replace(where, message=words))
            if one and placeholder(one):
                try:
                    unset = bool(expanded(one)[1])
                except ValueError as error:
                    self.problems.append(msgspec.structs.replace(where, message=str(error)))
                    return stored
                return stored if unset and stored and not placeholder(stored) else one
            return one or stored

        for key in opened & value.keys():
            secret = kept((key,), _plainly(value.pop(key)), old.get(key, ""))
            if secret != "":
                value[key] = msgspec.convert(secret, types[key])
        return value

    @contextmanager
    def _guarded(self, section: ConfigSection, name: str, given: Given) -> Iterator[None]:
        """A savepoint; what is raised in it becomes problems at their places, unless it follows from another one."""
        self._conn.execute("savepoint item")
        try:
            yield
        except EngineError as error:
            self._conn.execute("rollback to item")
            self._absent.add(name)
            path = f"$.{section.key}.{name}"
            located = [(one.path, one.message) for one in error.details] if given.value is not None else []
            for inner, words in located or [("$", error.message)]:
                spot = _spot(given.node, inner, section.aliases)
                if not (isinstance(spot.value, str) and spot is not given.node and spot.value in self._absent):
                    place = given.place if spot is given.node else spot.place
                    said = words if len(error.details) > 1 or given.value is None else error.message
                    self.problems.append(Problem(f"{path}{inner[1:]}"[:300], said[:500].rstrip("."), *place))
        finally:
            self._conn.execute("release item")


def _needed(kind: type[Struct], given: Mapping[str, Any]) -> list[str]:
    return [
        field.encode_name
        for field in fields_of(kind)
        if field.required and field.encode_name != "name" and field.encode_name not in given
    ]


def _same(given: Any, old: Any) -> bool:
    given = _plainly(given)
    if not isinstance(given, dict) or not isinstance(old, dict):
        return bool(given == old)
    return all(key in old and old[key] == value for key, value in given.items())


def _spot(node: Node, path: str, aliases: Mapping[str, str]) -> Node:
    """The node at a path of the item, or the deepest on the way there."""
    for name, number in STEP.findall(path[1:]):
        inner = node.value
        if isinstance(inner, dict):
            named = [name, *(alias for alias, field in aliases.items() if field == name)]
            step: Any = next((one for one in named if one in inner), None)
        else:
            step = int(number) if number and isinstance(inner, list) and int(number) < len(inner) else None
        if step is None:
            return node
        node = inner[step]
    return node


def _changes(engine: "Engine", parsed: Parsed, before: State, after: State) -> Iterator[Change]:
    for section in ordered(engine):
        old, new = before[section.key], after[section.key]
        for name in dict.fromkeys([*parsed.items.get(section.key, ()), *old]):
            if name in old and name not in new:
                yield Change(section.key, name, "delete")
            elif name in new and name not in old:
                yield Change(section.key, name, "create")
            elif name in new and old[name] != new[name]:
                yield Change(section.key, name, "update", tuple(_differences(section, old[name], new[name])))
            elif name in parsed.items.get(section.key, ()):
                yield Change(section.key, name, "unchanged")


def _differences(section: ConfigSection, old: Any, new: Any) -> Iterator[FieldChange]:
    if section.item is None:
        yield FieldChange("", old, new)
        return
    secret = {one.split(".")[0] for one in section.secrets}
    for field in dict.fromkeys([*old, *new]):
        if old.get(field) != new.get(field):
            shown = (MASK, MASK) if field in secret else (old.get(field), new.get(field))
            yield FieldChange(field, *shown)


async def take_in(engine: "Engine", raw: bytes, actor: Actor = OPERATOR, **options: Any) -> Plan:
    """Imports a file and reconnects what it changed; the options and errors are those of `apply`."""
    parsed = await anyio.to_thread.run_sync(parse, raw, engine.sections)
    plan = await engine.db.write(lambda conn: apply(conn, engine, parsed, actor, **options))
    if not options.get("dry_run"):
        await tell(engine, {change.section for change in plan.changes if change.action != "unchanged"})
    return plan


async def tell(engine: "Engine", keys: Collection[str]) -> None:
    """Lets sections reconnect; one that fails is logged, for what it has is committed."""
    for section in ordered(engine):
        if section.key in keys:
            try:
                await section.changed(engine)
            except Exception:
                log.exception("the section %s could not follow its change", section.key)


async def load(engine: "Engine", path: Path) -> None:
    """Imports the file of BYTEBREW_CONFIG; raises as `apply`, and Unprocessable where the file cannot be read."""
    try:
        async with await anyio.open_file(path, "rb") as file:
            raw = await file.read(engine.settings.core.max_body_bytes + 1)
    except OSError as error:
        raise Unprocessable(f"BYTEBREW_CONFIG: {path} cannot be read: {error.strerror}") from error
    if len(raw) > engine.settings.core.max_body_bytes:
        raise Unprocessable(f"BYTEBREW_CONFIG: {path} is longer than BYTEBREW_MAX_BODY_BYTES")
    parsed = await anyio.to_thread.run_sync(parse, raw, engine.sections)
    plan = await engine.db.write(lambda conn: apply(conn, engine, parsed))
    for line in lines(path, plan.warnings):
        log.warning("%s", line)


async def boot(engine: "Engine", path: Path) -> None:
    """The same, where SettingsError names each problem with its line and column."""
    try:
        await load(engine, path)
    except InvalidConfig as error:
        raise SettingsError("\n".join(lines(path, error.details))) from error
    except Unprocessable as error:
        raise SettingsError(error.message) from error


def lines(path: Path | str, problems: Sequence[Any]) -> list[str]:
    """A line for each problem, as compilers write them."""
    return [f"{path}:{one.line}:{one.column}: {one.path}: {one.message}" for one in problems]
