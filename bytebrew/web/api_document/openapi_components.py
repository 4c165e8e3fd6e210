"""Components of the API document: a portable JSON Schema for each struct."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_origin

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import fields as fields_of

TEMPLATE = "#/components/schemas/{name}"
_NO_NAME = re.compile(r"\W+")
_GENERIC = re.compile(r"([A-Za-z]+)_([A-Za-z]+)_")
"""msgspec's name of a `Page[Row]`."""
Schema = dict[str, Any]


def described(kinds: Sequence[Any], bodies: Iterable[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """The schema of each type, and those of all structs in them by name; `bodies` are the types of requests.

    A field that a request may omit is optional and has its default as `x-default`: code generators treat a field with a
    `default` as always present. In answers all fields are required that are never omitted.
    """
    made, found = msgspec.json.schema_components(kinds, ref_template=TEMPLATE)
    taken = set(_reached([one for kind, one in zip(kinds, made, strict=True) if kind in [*bodies]], found))
    structs = {_named(kind, found): kind for kind in _structs(kinds)}
    for name, one in found.items():
        _require(one, None if name in taken else structs.get(name))
    components = {(own := _component(name)): _portable(one) | {"title": own} for name, one in found.items()}
    return [_portable(one) for one in made], components


def ref(kind: type[Struct]) -> Schema:
    """A reference to the component of a struct."""
    return {"$ref": TEMPLATE.format(name=kind.__name__)}


def _require(schema: Schema, answered: type[Struct] | None) -> None:
    """Sets the required fields of a struct: for an answer, all that are always present."""
    properties: dict[str, Schema] = schema.get("properties", {})
    kind: Any = get_origin(answered) or answered  # Page for Page[Row]
    if answered is not None and not kind.__struct_config__.omit_defaults:
        absent = {field.encode_name for field in fields_of(answered) if field.default is UNSET}
        schema["required"] = [name for name in properties if name not in absent]
    for one in properties.values():
        if "default" in one and (default := one.pop("default")) is not None:
            one["x-default"] = default


def _reached(schemas: Iterable[Any], components: Mapping[str, Any]) -> Iterator[str]:
    """The names of the components that schemas refer to."""
    waiting, seen = [*schemas], set[str]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name in components and name not in seen:
                seen.add(name)
                waiting.append(components[name])
                yield name


def _structs(kinds: Iterable[Any]) -> Iterator[type[Struct]]:
    """Every struct within the types."""
    waiting: list[Any] = list(msgspec.inspect.multi_type_info(kinds))
    seen = set[type]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, msgspec.inspect.StructType):
            if one.cls in seen:
                continue
            seen.add(one.cls)
            yield one.cls
            waiting += [field.type for field in one.fields]
        for name in ("type", "item_type", "key_type", "value_type"):
            if isinstance(inner := getattr(one, name, None), msgspec.inspect.Type):
                waiting.append(inner)
        for name in ("types", "item_types"):
            waiting += getattr(one, name, ())


def _named(kind: type[Struct], components: Mapping[str, Any]) -> str:
    """The component of a struct by msgspec's name, which includes the module if two structs share a name."""
    [made], _ = msgspec.json.schema_components([kind], ref_template="{name}")
    own: str = made["$ref"]
    return own if own in components else f"{kind.__module__}.{own}"


def _portable(schema: Any) -> Any:
    """ECMA's patterns, items of every array, one name per component."""
    if isinstance(schema, list):
        return [_portable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _portable(one) for key, one in schema.items()}
    if isinstance(words := found.get("description"), str):
        found["description"] = inspect.cleandoc(words)
    if isinstance(pattern := found.get("pattern"), str):
        found["pattern"] = pattern.replace(r"\Z", "$")  # ECMA-262 has no \Z; its $ is the end of the text
    if isinstance(target := found.get("$ref"), str):
        found["$ref"] = TEMPLATE.format(name=_component(target.rpartition("/")[2]))
    if found.get("type") == "array" and "prefixItems" not in found:
        found.setdefault("items", {})
    return found


def _component(name: str) -> str:
    """A component's name without dots: msgspec adds the module if two structs share a name."""
    if generic := _GENERIC.fullmatch(name):
        return f"{generic[1]}Of{generic[2][0].upper()}{generic[2][1:]}"
    if "." not in name:
        return name
    module, _, own = name.rpartition(".")
    words = _NO_NAME.sub("_", module.removeprefix("bytebrew").removeprefix(".web")).split("_")
    return "".join(word.capitalize() for word in words) + own
