"""Decodes request bodies with aliases of fields, and with the read-only fields of answers.

PUT and PATCH accept the answer of GET: a read-only field is ignored if it is unchanged, and rejected by name if it was
changed. A `Live` field changes by itself, so an older value is ignored too.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec
from msgspec import UNSET, Struct, inspect
from msgspec.structs import fields as fields_of

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.base.formats import canonical_id, parse_time
from bytebrew.base.validation import canonical, refused, same_json
from bytebrew.contract.entities import LIVE
from bytebrew.contract.route import Reply, Request, Route

AHEAD = timedelta(minutes=1)
"""Tolerated clock skew of a time that a client sends back."""
_READ_ONLY = "is read-only: leave it out, or send it as GET gives it"


class Shape(Struct, frozen=True):
    """The read-only fields of an object, or of each object in a list; `parts` are inner objects that have some."""

    shown: Mapping[str, Any]
    parts: Mapping[str, "Shape"]
    listed: bool = False

    def __bool__(self) -> bool:
        return bool(self.shown or self.parts)


class Body:
    """Decodes the bodies of a route with aliases or read-only fields."""

    def __init__(self, route: Route, get: Route | None) -> None:
        self._route = route
        self._get = get if route.method in ("PUT", "PATCH") else None

    @cached_property
    def is_plain(self) -> bool:
        """Whether there are neither aliases nor read-only fields."""
        return not (self._route.aliases or self._shape)

    @cached_property
    def _structs(self) -> tuple[inspect.StructType, inspect.StructType] | None:
        """What the route takes and what GET shows, if both are structs.

        Inspected for the first body: doing so for all routes would make an engine start 3 % later.
        """
        taken, shown = (_struct(self._route.body), _struct(self._get.answer)) if self._get else (None, None)
        return (taken, shown) if taken and shown else None

    @cached_property
    def _shape(self) -> Shape:
        return _shape(*self._structs, self._route.aliases) if self._structs else Shape({}, {})

    @cached_property
    def _kept(self) -> set[str]:
        """Names of fields that the route does not change if the body has no value for them."""
        fields = fields_of(self._structs[0].cls) if self._structs else ()
        return {field.encode_name for field in fields if field.default is UNSET}

    @cached_property
    def _aliases(self) -> dict[str, str]:
        """Aliases that GET shows too, with the names of their fields."""
        names = {field.encode_name for field in self._structs[1].fields} if self._structs else set()
        return {alias: name for alias, name in self._route.aliases.items() if alias in names}

    async def read(self, request: Request[Any], raw: bytes) -> Any:
        """The body's struct; InvalidRequest has the paths of invalid fields, under the names that were sent."""
        sent: dict[str, str] = {}
        try:
            fields = msgspec.json.decode(raw or b"{}", type=dict[str, Any])
            if any(True for _ in _echoes(self._shape, fields)) or self._aliases.keys() & fields.keys():
                fields = await self._without_echoes(request, fields)
            sent = {name: alias for alias, name in self._route.aliases.items() if alias in fields}
            return msgspec.convert(canonical(fields, self._route.aliases), self._route.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise unfit(error, self._route.body, sent) from error

    async def _without_echoes(self, request: Request[Any], fields: dict[str, Any]) -> dict[str, Any]:
        assert self._get is not None
        answer = await self._get.run(request)
        shown = answer.body if isinstance(answer, Reply) else answer
        current = msgspec.json.decode(msgspec.json.encode(shown))
        faults: list[Detail] = []
        fields = _taken(self._shape, fields, current, "$", faults)
        for alias, name in self._aliases.items():
            if alias in fields and name in fields and _names_same(fields[alias], current.get(alias)):
                del fields[alias]
        same = [name for name in self._kept & fields.keys() & current.keys() if same_json(fields[name], current[name])]
        fields = {
            name: value for name, value in fields.items() if name not in same
        }  # unchanged, although GET may show another form
        if faults:
            names = ", ".join(fault.path.removeprefix("$.") for fault in faults)
            raise InvalidRequest(f"{names}: {_READ_ONLY}"[:1000], details=faults)
        return fields


def unfit(error: Exception, kind: Any, sent: Mapping[str, str] | None = None) -> InvalidRequest:
    """The error for a body that msgspec cannot decode as its type; `sent` are the aliases of its fields."""
    if isinstance(error, msgspec.ValidationError):
        return refused(error, kind, sent or {})
    return InvalidRequest(f"The body is not JSON: {error}", details=[Detail("$", str(error))])


def _struct(kind: Any) -> inspect.StructType | None:
    """The struct of a type, if it is one."""
    if kind is None:
        return None
    found = _inner(inspect.type_info(kind))
    return found if isinstance(found, inspect.StructType) else None


def _inner(kind: inspect.Type) -> inspect.Type:
    """A type without metadata, null and UNSET."""
    if isinstance(kind, inspect.Metadata):
        return _inner(kind.type)
    if isinstance(kind, inspect.UnionType):
        kinds = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        return _inner(kinds[0]) if len(kinds) == 1 else kind
    return kind


def _shape(taken: inspect.StructType, shown: inspect.StructType, aliases: Mapping[str, str] | None = None) -> Shape:
    ours = {field.encode_name: field.type for field in taken.fields}
    parts: dict[str, Shape] = {}
    for field in shown.fields:
        if field.encode_name not in ours:
            continue
        one, other = _inner(ours[field.encode_name]), _inner(field.type)
        lists = inspect.ListType, inspect.VarTupleType
        if listed := isinstance(one, lists) and isinstance(other, lists):
            one, other = _inner(one.item_type), _inner(other.item_type)
        if isinstance(one, inspect.StructType) and isinstance(other, inspect.StructType) and one.cls is not other.cls:
            part = _shape(one, other)
            if part:
                parts[field.encode_name] = Shape(part.shown, part.parts, listed)
    known = {*ours, *(aliases or {})}
    kinds = {field.encode_name: field.type for field in fields_of(shown.cls)}
    return Shape({name: kind for name, kind in kinds.items() if name not in known}, parts)


def _echoes(shape: Shape, value: Any) -> Iterator[str]:
    """The names of read-only fields anywhere in the value."""
    for item in value if isinstance(value, list) and shape.listed else [value]:
        if isinstance(item, dict):
            yield from shape.shown.keys() & item.keys()
            for name in shape.parts.keys() & item.keys():
                yield from _echoes(shape.parts[name], item[name])


def _taken(shape: Shape, value: Any, current: Any, path: str, faults: list[Detail]) -> Any:
    """The value without its read-only fields; changed ones become errors."""
    if shape.listed and isinstance(value, list):
        one = Shape(shape.shown, shape.parts)
        rows = current if isinstance(current, list) else []
        return [_taken(one, item, _same(item, rows, n), f"{path}[{n}]", faults) for n, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    now = current if isinstance(current, dict) else {}
    kept = {}
    for name, inner in value.items():
        at = f"{path}.{name}"
        if name in shape.parts:
            kept[name] = _taken(shape.parts[name], inner, now.get(name), at, faults)
        elif name not in shape.shown:
            kept[name] = inner
        elif not (name in now and _names_same(inner, now[name])) and not _was(name, shape.shown[name], inner, now):
            faults.append(Detail(at[:300], _READ_ONLY))
    return kept


def _same(item: Any, rows: list[Any], n: int) -> Any:
    """The stored row for an item of a list: the one with its id, or at its index."""
    if isinstance(item, dict) and "id" in item:
        return next((row for row in rows if isinstance(row, dict) and _names_same(item["id"], row.get("id"))), None)
    return rows[n] if n < len(rows) else None


def _was(name: str, kind: Any, value: Any, now: Mapping[str, Any]) -> bool:
    """Whether the value may be an earlier value of a live field: its type matches, and a time is not in the future."""
    described = inspect.type_info(kind)
    if not (isinstance(described, inspect.Metadata) and (described.extra or {}).get(LIVE)):
        return False
    try:
        if not same_json(msgspec.convert(value, kind), value):  # it has unknown fields
            return False
        if not name.endswith("_at") or value is None:
            return True
        began = now.get("created_at") or value
        return parse_time(began) <= parse_time(value) <= datetime.now(UTC) + AHEAD
    except (msgspec.ValidationError, ValueError, OverflowError):
        return False


def _names_same(sent: Any, current: Any) -> bool:
    """Whether two values are equal, or the same UUID in another case."""
    return same_json(sent, current) or (isinstance(sent, str) and canonical_id(sent) == current)
