"""The work of a JSON Schema: a bound on the subschemas that one value is checked against, and what makes it endless."""

import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

import msgspec

from bytebrew.base.errors import Detail

MOST_VISITS = 10_000
"""Limit on the subschemas that are applied to one value of `_LEVELS` levels and to what it is within."""
MOST_WORK = 2_000_000
"""Limit on the subschemas that are applied within one value: under half a second."""
_LEVELS = 8
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
_EACH = ("additionalProperties", "unevaluatedProperties", "propertyNames", "items", "unevaluatedItems", "contains")
_SINGLE = ("properties", "prefixItems")
"""Keywords of which one subschema at most is applied to a property or an item."""
_NAME = re.compile(r"[A-Za-z_$]\w{0,99}", re.ASCII)


class InvalidSchema(Exception):
    """A schema that is not valid or cannot be checked against; `detail` has the path in it, from `$`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.detail = Detail(path, message)


def path_of(steps: Iterable[str | int]) -> str:
    """A path from `$`: names are `.name` or `["other name"]`, indexes `[2]`."""
    return "$" + "".join(f".{step}" if _NAME.fullmatch(str(step)) else f"[{_quoted(step)}]" for step in steps)[:300]


def _quoted(step: str | int) -> str:
    return msgspec.json.encode(step).decode()


class Visits:
    """An upper bound on the subschemas that are applied to one value, by the value's levels.

    `allOf` of two references that lead to such an `allOf` again doubles the work at each level, of the schema or, in a
    recursive schema, of the value.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._costs: dict[str, int] = {}
        self._in_place: dict[str, list[str]] = {}
        self._inner: dict[str, list[list[str]]] = {}
        self._anchors: dict[str, str] = {}
        self._refs: list[tuple[str, str]] = []
        self.matches = False  # texts against patterns
        self._add("", schema)
        while self._refs:
            place, ref = self._refs.pop()
            target = self._target(place, ref)
            self._in_place[place].append(target)
        try:
            self._order = list(TopologicalSorter(self._in_place).static_order())
        except CycleError as error:
            place = error.args[1][0]
            raise InvalidSchema(self._shown(place), "refers to itself without a property or an item between") from None
        self._by_level: list[dict[str, int]] = []
        if self.at(_LEVELS) > MOST_VISITS:
            message = f"applies more than {MOST_VISITS} subschemas to one value; refer to fewer in allOf, anyOf, oneOf"
            raise InvalidSchema("$", message)

    def at(self, levels: int) -> int:
        """The bound for a value of so many levels."""
        while len(self._by_level) <= levels:
            below = self._by_level[-1] if self._by_level else None
            level: dict[str, int] = {}
            for place in self._order:  # what is applied in place comes first
                visits = self._costs[place] * (1 + sum(level[one] for one in self._in_place[place]))
                if below is not None:
                    visits += sum(max(below[one] for one in group) for group in self._inner[place])
                level[place] = min(visits, MOST_WORK + 1)
            self._by_level.append(level)
        return self._by_level[levels][""]

    def _add(self, place: str, schema: Any) -> None:
        """Adds a subschema and all below it."""
        if place in self._costs:
            return
        self._in_place[place], self._inner[place], self._costs[place] = [], [], 1
        if not isinstance(schema, dict):
            return
        self.matches |= "pattern" in schema or "patternProperties" in schema
        lists = sum(len(value) for value in schema.values() if isinstance(value, list | dict))
        # `unevaluated...` applies everything in place once more
        twice = 2 if "unevaluatedProperties" in schema or "unevaluatedItems" in schema else 1
        self._costs[place] = twice * (1 + lists // 16)
        if place and "$id" in schema:
            raise InvalidSchema(self._shown(place), "an inner $id is not supported; refer to #/$defs/...")
        for name in ("$anchor", "$dynamicAnchor"):
            if name in schema:
                self._anchors[str(schema[name])] = place
        for name in ("$ref", "$dynamicRef"):
            if isinstance(ref := schema.get(name), str):
                if not ref.startswith("#"):
                    raise InvalidSchema(f"{self._shown(place)}.{name}", "refers to another document; only #... is read")
                self._refs.append((place, ref))
        for name in _IN_PLACE:
            self._in_place[place] += self._below(place, name, schema.get(name))
        for name in (*_EACH, "patternProperties"):
            self._inner[place] += [[one] for one in self._below(place, name, schema.get(name))]
        self._inner[place] += [group for name in _SINGLE if (group := self._below(place, name, schema.get(name)))]
        self._below(place, "$defs", schema.get("$defs"))

    def _below(self, place: str, keyword: str, value: Any) -> list[str]:
        """The places of a keyword's subschemas, which are added."""
        at = f"{place}/{keyword}"
        found: Iterator[tuple[str, Any]] = iter(())
        if isinstance(value, list):
            found = ((f"{at}/{n}", one) for n, one in enumerate(value))
        elif isinstance(value, dict) and keyword in ("properties", "patternProperties", "dependentSchemas", "$defs"):
            found = ((f"{at}/{_escaped(name)}", one) for name, one in value.items())
        elif value is not None:
            found = iter([(at, value)])
        places = []
        for inner, schema in found:
            self._add(inner, schema)
            places.append(inner)
        return places

    def _target(self, place: str, ref: str) -> str:
        """The place that a reference leads to (RFC 6901 section 6, or the name of an anchor)."""
        pointer = unquote(ref[1:])
        if pointer and not pointer.startswith("/"):
            if pointer in self._anchors:
                return self._anchors[pointer]
            raise InvalidSchema(self._shown(place), f"there is no anchor '{pointer[:100]}'")
        value: Any = self._schema
        for step in pointer.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            else:
                raise InvalidSchema(self._shown(place), f"'{ref[:100]}' leads nowhere")
        target = "".join(f"/{_escaped(step.replace('~1', '/').replace('~0', '~'))}" for step in pointer.split("/")[1:])
        self._add(target, value)
        return target

    def _shown(self, place: str) -> str:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in place.split("/")[1:]]
        return path_of(int(step) if step.isdecimal() else step for step in steps)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
