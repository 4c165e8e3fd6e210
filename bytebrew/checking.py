"""What a configuration file says, item by item: each field as its type, and every problem with its place."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import fields as fields_of

from bytebrew.dialects import Item, Sections, near, plain, sections_of
from bytebrew.documents import Node, Place, Problem, read
from bytebrew.sections import ConfigSection
from bytebrew.variables import expanded

STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
"""A step of a path as msgspec writes it: a field, or a place in a list."""
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$")
_MISSING = re.compile(r"Object missing required field `(.*)`$")
_MOST = 20
"""Problems that are told of one field."""


class Given(Struct):
    """An item of the file, its fields checked as far as that goes without the database."""

    place: Place
    node: Node
    value: Any


class Parsed(Struct):
    """A file that was read; with a problem nothing of it is taken in."""

    items: dict[str, dict[str, Given]]
    places: dict[str, Place]
    problems: list[Problem]
    warnings: list[Problem]


def parse(raw: bytes, sections: Mapping[str, ConfigSection]) -> Parsed:
    """Reads a file in any dialect; InvalidConfig where it is no YAML, other problems are kept for `apply` to raise."""
    root, problems = read(raw)
    found = sections_of(root, sections)
    found.problems += problems
    items = {
        key: {name: _Checking(sections[key], name, found).item(item) for name, item in named.items()}
        for key, named in found.items.items()
    }
    return Parsed(items, found.places, found.problems, found.warnings)


class _Checking:
    """Turns an item's nodes into its fields and keeps every problem with its place."""

    def __init__(self, section: ConfigSection, name: str, found: Sections) -> None:
        self._section = section
        self._path = f"$.{section.key}.{name}"
        self._found = found
        self._name = name

    def item(self, item: Item) -> Given:
        kind = self._section.item
        if kind is None:
            return Given(item.place, item.node, self._plain(item.node, ()))
        known = {field.encode_name: field for field in fields_of(kind)}
        if name := known.pop("name", None):
            try:
                msgspec.convert(self._name, name.type)
            except msgspec.ValidationError as error:
                self._found.note(Problem(self._path[:300], f"its name: {error}"[:500], *item.place))
        node = item.node
        if node.value is None:
            return Given(item.place, node, {})
        if not isinstance(node.value, dict):
            self._found.note(node.problem(self._path, "is a mapping of fields"))
            return Given(item.place, node, {})
        given: dict[str, Any] = {}
        for key, inner in node.value.items():
            field = self._section.aliases.get(key, key)
            path = f"{self._path}.{key[:100]}"
            if field not in known:
                words = f"there is no field '{key[:100]}'{near(key, {*known, *self._section.aliases})}"
                self._found.note(Problem(path[:300], words, *node.keys[key]))
            elif field in given:
                words = f"is another name of {field}, which is there already"
                self._found.note(Problem(path[:300], words, *node.keys[key]))
            else:
                value = self._fitting(inner, known[field].type, path, (field,))
                if value is not UNSET:
                    given[field] = value
        return Given(item.place, node, given)

    def _fitting(self, node: Node, kind: Any, path: str, keys: tuple[str, ...]) -> Any:
        """The value as its type, or UNSET; each part that does not fit is noted, and taken out to find the next."""
        for _ in range(_MOST):
            notes = len(self._found.problems), len(self._found.warnings)
            value = self._plain(node, keys)
            try:
                return msgspec.convert(
                    value, kind, strict=value == plain(node)
                )  # a variable is text, whatever it stands for
            except msgspec.ValidationError as error:
                unset = [one.message.partition(" ")[0] for one in self._found.warnings[notes[1] :]]
                del self._found.problems[notes[0] :], self._found.warnings[notes[1] :]  # they are found once more
                if not self._taken_out(node, kind, path, str(error), unset):
                    break
        return UNSET

    def _taken_out(self, node: Node, kind: Any, path: str, words: str, unset: list[str]) -> bool:
        """Notes what msgspec says at its place and takes that part out; False where it is the whole value."""
        words, _, at = words.partition(" - at `$")
        spot, parent, key = node, node, None
        for name, number in STEP.findall(at.removesuffix("`")):
            step = name or int(number)
            inner = spot.value
            if not (step in inner if isinstance(inner, dict) else isinstance(step, int) and step < len(inner)):
                break
            path += f".{name}" if name else f"[{spot.written(int(number))}]"
            spot, parent, key = inner[step], spot, step
        place = spot.place
        if (unknown := _UNKNOWN.match(words)) and isinstance(spot.value, dict) and unknown[1] in spot.value:
            parent, key, place = spot, unknown[1], spot.keys[unknown[1]]
            path, words = f"{path}.{key}", f"there is no field '{key[:100]}'{near(key, _names(kind))}"
        if unset:
            words += f"; {', '.join(unset[:5])} is not set"
        missing = _MISSING.match(words)
        if not (missing and any(self._meant(path, missing[1], one) for one in self._found.problems[-_MOST:])):
            self._found.note(Problem(path[:300], words[:500], *place))
        if key is not None:
            parent.take_out(key)
        return key is not None

    @staticmethod
    def _meant(path: str, name: str, problem: Problem) -> bool:
        """Whether a field that is missing has already been told to be misspelt."""
        return problem.path.startswith(f"{path}.") and problem.message.endswith(f"did you mean '{name}'?")

    def _plain(self, node: Node, keys: tuple[str, ...]) -> Any:
        if isinstance(node.value, dict):
            return {key: self._plain(one, (*keys, key)) for key, one in node.value.items()}
        if isinstance(node.value, list):
            return [self._plain(one, (*keys, str(n))) for n, one in enumerate(node.value)]
        section = self._section
        if not isinstance(node.value, str) or section.keeps_variables or section.is_secret(keys):
            return node.value
        path = ".".join((self._path, *keys))
        try:
            text, missing = expanded(node.value)
        except ValueError as error:
            self._found.note(node.problem(path, str(error)))
            return node.value
        self._found.warnings += [node.problem(path, f"{name} is not set, so this is empty there") for name in missing]
        return text


def _names(kind: Any) -> set[str]:
    """The names of fields anywhere in a type, to find the one that was meant."""
    found: set[str] = set()
    waiting = [msgspec.inspect.type_info(kind)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, msgspec.inspect.StructType):
            found |= {field.encode_name for field in one.fields}
        for name in ("type", "item_type", "value_type"):
            if inner := getattr(one, name, None):
                waiting.append(inner)
        waiting += getattr(one, "types", ())
    return found
