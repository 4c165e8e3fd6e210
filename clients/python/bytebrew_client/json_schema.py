"""JSON Schemas of Python types, and values of these types out of JSON.

It knows the JSON types, lists, tuples, sets and dicts of them, Literal, Enum, unions, Annotated with a text as the
description, dataclasses and TypedDicts; models of pydantic and structs of msgspec by their own libraries.
"""

import dataclasses
import enum
import json
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_ARRAYS = (list, tuple, set, frozenset, Sequence)


def schema_of(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a type, whole in itself; TypeError for a type that has none."""
    definitions = Definitions()
    schema = definitions.schema(hint)
    if named := definitions.root(schema):
        schema = named
    return definitions.whole(schema)


class Definitions:
    """Collects the schemas of types with names, which refer to each other."""

    def __init__(self) -> None:
        self._names: dict[Any, str] = {}
        self._schemas: dict[str, dict[str, Any]] = {}

    def root(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        """The schema itself where `schema` refers to a collected one."""
        return self._schemas.get(str(schema.get("$ref", "")).removeprefix("#/$defs/"))

    def whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema with those of the collected ones that it refers to, directly or not."""
        used: dict[str, Any] = {}
        waiting = [schema]
        while waiting:
            text = json.dumps(waiting.pop())
            for name in self._schemas.keys() - used.keys():
                if json.dumps(f"#/$defs/{name}") in text:
                    used[name] = self._schemas[name]
                    waiting.append(used[name])
        return {**schema, "$defs": used} if used else schema

    def schema(self, hint: Any) -> dict[str, Any]:
        """The schema of a type, which may refer to collected ones."""
        if hint is Any or hint is object:
            return {}
        if hint in _SCALARS:
            return {"type": _SCALARS[hint]}
        origin, parts = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self._annotated(parts)
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.schema(one) for one in parts]}
        if origin is Literal:
            return {"enum": [*parts]}
        if (origin or hint) in _ARRAYS:
            return self._array(origin or hint, parts)
        if (origin or hint) in (dict, Mapping):
            return {"type": "object", **({"additionalProperties": self.schema(parts[1])} if parts else {})}
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return {"enum": [one.value for one in hint]}
        return self._named(hint)

    def _annotated(self, parts: tuple[Any, ...]) -> dict[str, Any]:
        texts = [one for one in parts[1:] if isinstance(one, str)]
        return {**self.schema(parts[0]), **({"description": texts[0]} if texts else {})}

    def _array(self, kind: Any, parts: tuple[Any, ...]) -> dict[str, Any]:
        if kind is tuple and parts and parts[-1] is not Ellipsis:
            items = [self.schema(one) for one in parts]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        schema = {"type": "array", **({"items": self.schema(parts[0])} if parts else {})}
        return {**schema, "uniqueItems": True} if kind in (set, frozenset) else schema

    def _named(self, hint: Any) -> dict[str, Any]:
        if hint in self._names:
            return {"$ref": f"#/$defs/{self._names[hint]}"}
        if _is_msgspec(hint):
            [schema], more = sys.modules["msgspec"].json.schema_components([hint], ref_template="#/$defs/{name}")
            self._schemas.update(more)
            return dict(schema)
        if hasattr(hint, "model_json_schema"):
            schema = hint.model_json_schema(ref_template="#/$defs/{model}")
            self._schemas.update(schema.pop("$defs", {}))
            return self._add(hint, schema)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            required = [one.name for one in dataclasses.fields(hint) if _is_required(one)]
            return self._object(hint, required)
        if typing.is_typeddict(hint):
            return self._object(hint, sorted(hint.__required_keys__))
        raise TypeError(f"{hint!r} has no JSON Schema; use JSON types, dataclasses, TypedDicts, pydantic or msgspec")

    def _object(self, hint: Any, required: Sequence[str]) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object"}
        reference = self._add(hint, schema)  # before its fields, which may be of the same type
        schema["properties"] = {name: self.schema(one) for name, one in _fields(hint).items()}
        schema |= {"required": [*required], "additionalProperties": False}
        return reference

    def _add(self, hint: Any, schema: dict[str, Any]) -> dict[str, Any]:
        name = hint.__name__
        while name in self._schemas:
            name += "_"
        self._names[hint], self._schemas[name] = name, schema
        return {"$ref": f"#/$defs/{name}"}


def convert(hint: Any, value: Any, path: str = "$") -> Any:
    """The value of a type out of JSON; ValueError with the path of what does not fit."""
    if hint is Any or hint is object:
        return value
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return convert(parts[0], value, path)
    if origin in (Union, types.UnionType):
        return _first_that_fits(parts, value, path)
    if origin is Literal:
        equal = [one for one in parts if one == value and isinstance(one, bool) is isinstance(value, bool)]
        return equal[0] if equal else _checked(value, False, hint, path)
    if hint is float and type(value) is int:
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():  # 3.0 is an integer in JSON Schema
        return int(value)
    if hint in _SCALARS:
        return _checked(value, type(value) is hint, hint, path)
    if (origin or hint) in _ARRAYS:
        _checked(value, isinstance(value, list), hint, path)
        kind = list if (origin or hint) is Sequence else origin or hint
        return kind(_items(kind, parts, value, path))
    if (origin or hint) in (dict, Mapping):
        _checked(value, isinstance(value, dict), hint, path)
        return {name: convert(parts[1] if parts else Any, one, f"{path}.{name}") for name, one in value.items()}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if _is_msgspec(hint):
        return sys.modules["msgspec"].convert(value, hint)
    if hasattr(hint, "model_validate"):
        return hint.model_validate(value)
    _checked(value, isinstance(value, dict), hint, path)
    known = {name: convert(one, value[name], f"{path}.{name}") for name, one in _fields(hint).items() if name in value}
    required = hint.__required_keys__ if typing.is_typeddict(hint) else _required(hint)
    if missing := sorted(required - known.keys()):
        raise ValueError(f"{path}.{missing[0]} is missing")
    return hint(**known)


def _first_that_fits(parts: Sequence[Any], value: Any, path: str) -> Any:
    faults = []
    for one in parts:
        try:
            return convert(one, value, path)
        except ValueError as error:
            faults.append(str(error))
    raise ValueError(faults[0] if len(faults) == 1 else f"{path} is of none of the types: {'; '.join(faults)}")


def _items(kind: Any, parts: Sequence[Any], value: Sequence[Any], path: str) -> list[Any]:
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        _checked(value, len(value) == len(parts), f"{len(parts)} items", path)
        return [convert(one, item, f"{path}[{n}]") for n, (one, item) in enumerate(zip(parts, value, strict=True))]
    return [convert(parts[0] if parts else Any, item, f"{path}[{n}]") for n, item in enumerate(value)]


def _checked(value: Any, fits: bool, hint: Any, path: str) -> Any:
    if not fits:
        raise ValueError(f"{path} is no {getattr(hint, '__name__', None) or hint}: {json.dumps(value)[:100]}")
    return value


def plain(value: Any) -> Any:
    """The value as JSON's own types, for those that `json` does not know: its `default`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return [*value]
    if isinstance(value, Mapping):
        return dict(value)
    if _is_msgspec(type(value)):
        return sys.modules["msgspec"].to_builtins(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__name__} is no JSON; return JSON types, dataclasses, pydantic or msgspec")


def _is_msgspec(hint: Any) -> bool:
    return hasattr(hint, "__struct_fields__") and "msgspec" in sys.modules


def _fields(hint: Any) -> dict[str, Any]:
    hints = get_type_hints(hint, include_extras=True)
    if dataclasses.is_dataclass(hint):
        return {one.name: hints[one.name] for one in dataclasses.fields(hint) if one.init}
    optional = (typing.Required, typing.NotRequired)
    return {name: get_args(one)[0] if get_origin(one) in optional else one for name, one in hints.items()}


def _required(hint: Any) -> set[str]:
    return {one.name for one in dataclasses.fields(hint) if _is_required(one)}


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    missing = dataclasses.MISSING
    return field.init and field.default is missing and field.default_factory is missing
