"""Versions of the configuration: keeps one of each changed item, and rolls an item back to one.

A version is the item as its section exports it, and a rollback is an import of it, so every section has versions.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import asdict
from msgspec.structs import fields as fields_of

from bytebrew.base.env_variables import placeholder
from bytebrew.base.errors import Detail, EngineError, InvalidRequest, NotFound, Unprocessable
from bytebrew.base.masking import MASK
from bytebrew.base.validation import plain_json, readable, same_json
from bytebrew.contract.auth import Actor
from bytebrew.contract.configuration.config_section import ConfigSection, section_changed
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine
from bytebrew.store.configuration import versions
from bytebrew.store.configuration.versions import Act, Stored, WholeVersion

log = logging.getLogger(__name__)

MARKED = ("models", "agents", "schemas")
"""Sections whose tables have triggers that mark changed items; the others are compared as a whole."""
_UNREADABLE = "a change of %s gets no version, as it cannot be read: %s"
"""Logged for such as a credential that was sealed with another key: the change that replaces it must go through."""
ENGINE = Actor(subject="engine", name="engine", kind="token", scopes=frozenset({"admin"}))
"""The actor of changes that the engine finds at its start, and of what plugins offer to an empty engine."""


class RolledBack(WholeVersion, frozen=True, kw_only=True):
    """The newest version of an item after a rollback.

    `differs` are the fields that are not as in the version that it restores: credentials, of which a version has none,
    and what only a change of another item can undo. `warnings` say what the item names and the engine does not have.
    """

    differs: tuple[str, ...]
    warnings: tuple[str, ...]


def versioned(sections: Mapping[str, ConfigSection]) -> dict[str, ConfigSection]:
    """The sections whose items have versions: those of named items with fields."""
    return {key: section for key, section in sections.items() if section.item is not None}


def keep(
    conn: Connection,
    engine: Engine,
    sections: Mapping[str, ConfigSection],
    actor: Actor,
    *,
    whole: Iterable[str] = (),
    rollback: tuple[str, str, int] | None = None,
) -> None:
    """Stores a version of each item that has changed since its newest one, within the transaction of the change.

    Those of `whole` sections are compared one by one, the others only if they are marked. `rollback` is section, name
    and number of a version that was restored.
    """
    keeping = _Keeping(conn, engine, actor, rollback)
    for key, name in versions.marked(conn):
        keeping.compare_marked(sections[key], name)
    for key in whole:
        if key not in MARKED:
            keeping.compare_all(sections[key])


def keep_all(conn: Connection, engine: Engine, sections: Mapping[str, ConfigSection], actor: Actor) -> None:
    """As `keep`, for all sections."""
    keep(conn, engine, sections, actor, whole=versioned(sections))


class _Keeping:
    def __init__(
        self, conn: Connection, engine: Engine, actor: Actor, rollback: tuple[str, str, int] | None = None
    ) -> None:
        self._conn, self._engine, self._actor, self._rollback = conn, engine, actor, rollback
        self._digests = engine.secrets.derived(b"versions")

    def compare_marked(self, section: ConfigSection, name: str) -> None:
        try:
            item = section.read(self._conn, self._engine, name)
        except EngineError as error:
            log.warning(_UNREADABLE, section.key, error)
            return
        self.compare(section, name, plain_json(item), versions.newest_of(self._conn, section.key, name))

    def compare_all(self, section: ConfigSection) -> None:
        try:
            items = plain_json(section.export(self._conn, self._engine))
        except EngineError as error:
            log.warning(_UNREADABLE, section.key, error)
            return
        newest = versions.newest(self._conn, section.key)
        gone = [name for name, one in newest.items() if one.content is not None and name not in items]
        new = [name for name in items if name not in newest or newest[name].content is None]
        if len(gone) == len(new) == 1 and self._is_as_before(section, items[new[0]], newest[gone[0]]):
            versions.rename(self._conn, section.key, gone[0], new[0])
            newest[new[0]] = newest.pop(gone[0])
            self._add(section, new[0], items[new[0]], newest[new[0]], "rename")
            del items[new[0]], newest[new[0]]
        for name in dict.fromkeys([*newest, *items]):
            self.compare(section, name, items.get(name), newest.get(name))

    def compare(self, section: ConfigSection, name: str, item: Any, newest: Stored | None) -> None:
        there = newest is not None and newest.content is not None
        if item is None and there:
            self._add(section, name, None, newest, "delete")
        elif item is not None and not there:
            self._add(section, name, item, newest, "create")
        elif item is not None and newest is not None and not self._is_as_before(section, item, newest):
            self._add(section, name, item, newest, "update")

    def _is_as_before(self, section: ConfigSection, item: Mapping[str, Any], newest: Stored) -> bool:
        return same_json(shown(section, item), newest.content) and self._sums(section, item) == newest.credentials

    def _add(self, section: ConfigSection, name: str, item: Any, newest: Stored | None, action: Act) -> None:
        content = None if item is None else shown(section, item)
        sums = {} if item is None else self._sums(section, item)
        before = newest or Stored(name=name, n=0, content=None, credentials={})
        restores = None
        if self._rollback is not None and self._rollback[:2] == (section.key, name):
            action, restores = "rollback", self._rollback[2]
        made = Stored(name=name, n=before.n + 1, content=content, credentials=sums)
        fields = ["name"] if action == "rename" else [] if content is None else differing(before, made)
        versions.add(self._conn, section.key, made, self._actor, action, fields, restores)
        section_changed(self._conn, section.key)

    def _sums(self, section: ConfigSection, item: Mapping[str, Any]) -> dict[str, str]:
        """Digests of the fields with credentials, which only a holder of the key file can compute."""
        return {
            field: self._digests.mac(msgspec.json.encode([section.key, field, item[field]], order="sorted"))[:8].hex()
            for field in sorted(section.secret_fields)
            if item.get(field)
        }


def shown(section: ConfigSection, item: Mapping[str, Any]) -> dict[str, Any]:
    """An exported item without its credentials: a `${VAR}` is there as it is written, another one as `***`."""

    if not section.secrets:
        return {**item}

    def value(path: tuple[str, ...], part: Any) -> Any:
        if isinstance(part, str) and part and section.is_secret(path):
            return placeholder(part) or MASK
        return part

    return {field: _mapped((field,), part, value) for field, part in item.items()}


def _mapped(path: tuple[str, ...], part: Any, change: Callable[[tuple[str, ...], Any], Any]) -> Any:
    """The value with each part of it changed that is no list and no object; UNSET leaves out a field of an object."""
    if isinstance(part, dict):
        inner = {key: _mapped((*path, key), one, change) for key, one in part.items()}
        return {key: one for key, one in inner.items() if one is not UNSET}
    if isinstance(part, list):
        return [_mapped((*path, str(n)), one, change) for n, one in enumerate(part)]
    return change(path, part)


def roll_back(
    conn: Connection, engine: Engine, sections: Mapping[str, ConfigSection], actor: Actor, key: str, name: str, n: int
) -> RolledBack:
    """Gives an item the content of one of its versions, as an import of it would; a deleted item is created again.

    A credential stays as it is, unless the version has it as a `${VAR}`. Raises NotFound, and Unprocessable or the
    section's Conflict or Forbidden if the item cannot be as it was.
    """
    section, then = sections[key], versions.stored(conn, key, name, n)
    if then.content is None:
        message = f"Version {n} of '{name}' is its deletion; name an earlier one, or delete it"
        raise Unprocessable(message, details=[Detail("$.version", "is a deletion")])
    stored = section.read(conn, engine, name)
    conn.execute("savepoint rollback_item")
    try:
        _restore(conn, engine, section, actor, name, then.content, None if stored is None else plain_json(stored))
        warnings = tuple(section.warnings(conn, engine, name))
    except EngineError:  # after any other error the whole transaction is rolled back
        conn.execute("rollback to rollback_item")
        conn.execute("release rollback_item")
        raise
    conn.execute("release rollback_item")
    keep(conn, engine, sections, actor, whole=(key,), rollback=(key, name, n))
    newest = versions.newest_of(conn, key, name)
    assert newest is not None
    made = versions.get(conn, key, name, newest.n)
    return RolledBack(**asdict(made), differs=(*differing(then, newest),), warnings=warnings)


def differing(first: Stored, second: Stored) -> list[str]:
    """The fields that two versions of an item do not share, credentials included."""
    old, new = first.content or {}, second.content or {}
    return [
        field
        for field in {**old, **new}
        if not same_json(old.get(field), new.get(field))
        or first.credentials.get(field) != second.credentials.get(field)
    ]


def _restore(
    conn: Connection,
    engine: Engine,
    section: ConfigSection,
    actor: Actor,
    name: str,
    content: Mapping[str, Any],
    stored: Mapping[str, Any] | None,
) -> None:
    """Stores the fields of a version that differ from those of the item; credentials in neither stay."""
    before = {} if stored is None else {**section.defaults(), **shown(section, stored)}
    values: dict[str, Any] = {}
    kinds = {field.encode_name: field.type for field in fields_of(section.item)} if section.item else {}
    for field, value in section.completed(content).items():
        if stored is not None and field in before and same_json(value, before[field]):
            continue
        sent = _mapped((field,), value, lambda path, part: _kept(section, path, part))
        if sent is UNSET:
            continue
        if field not in kinds:
            message = f"This engine knows no field '{field}' of '{name}' any more"
            raise Unprocessable(message, details=[Detail(f"$.{field}", "is not known")])
        try:
            values[field] = msgspec.convert(sent, kinds[field])
        except msgspec.ValidationError as error:
            words = f"{field}: {readable(str(error), kinds[field])}"
            raise Unprocessable(
                f"'{name}' cannot be as it was: {words}", details=[Detail(f"$.{field}", words)]
            ) from error
    if lost := [] if stored is not None else sorted(_required(section) - values.keys()):
        absent = [Detail(f"$.{field}", "is a credential, of which a version has none") for field in lost]
        raise Unprocessable(f"'{name}' needs {' and '.join(lost)}; create it anew with it", details=absent)
    try:
        section.put(conn, engine, actor, name, values)
        section.link(conn, engine, name, values)
    except (InvalidRequest, NotFound, Unprocessable) as error:
        details = [*error.details] or [Detail("$", error.message)]
        raise Unprocessable(f"'{name}' cannot be as it was: {error.message}", details=details) from error


def _required(section: ConfigSection) -> set[str]:
    return {field.encode_name for field in fields_of(section.item or Struct) if field.required} - {"name"}


def _kept(section: ConfigSection, path: tuple[str, ...], part: Any) -> Any:
    return section.stays if part == MASK and section.is_secret(path) else part
