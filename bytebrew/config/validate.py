"""Validates a configuration file: converts the fields of each item to their types, and notes every problem."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import fields as fields_of
from msgspec.structs import replace

from bytebrew.base.env_variables import expanded, placeholder, variables_in
from bytebrew.base.validation import did_you_mean, plain_json, readable, same_json
from bytebrew.config.yaml_tree import Problems, read
from bytebrew.contract.configuration.config_dialect import ConfigDialect, Node, Place, Problem
from bytebrew.contract.configuration.config_section import ConfigSection

_AT = re.compile(r" - at `(key` in `)?\$(.*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
"""A step of a path as msgspec writes it: a field, an index of a list, or `[...]` for some key of a mapping."""
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$")
_MISSING = re.compile(r"Object missing required field `(.*)`$")
_MOST = 20
"""Limit of problems reported per field."""


class Item(Struct):
    """An item of a section and the position of its name."""

    place: Place
    node: Node
    value: Any = None
    sent: Any = None

    def with_stored(
        self,
        section: ConfigSection,
        name: str,
        old: Mapping[str, Any],
        note: Callable[[Problem], None],
        warn: Callable[[Problem], None],
    ) -> "Item":
        """The item with the stored credentials that it does not replace; warns of credentials in plain text."""
        unsaid: set[tuple[str, ...]] = set()

        def whole(path: tuple[str, ...], part: Any, stored: Any, spot: str) -> Any:
            if isinstance(part, dict):
                there = stored if isinstance(stored, dict) else {}
                return {key: whole((*path, key), two, there.get(key, ""), f"{spot}.{key}") for key, two in part.items()}
            if isinstance(part, list):
                there = dict(enumerate(stored if isinstance(stored, list) else ()))
                return [whole((*path, str(n)), two, there.get(n, ""), f"{spot}[{n}]") for n, two in enumerate(part)]
            if not isinstance(part, str) or not section.is_secret(path):
                return part
            stored = stored if isinstance(stored, str) else ""
            at, place = f"$.{section.key}.{name}{spot}", self.spot(f"${spot}", section.aliases).place
            if placeholder(part):
                try:
                    stays = bool(expanded(part)[1]) and placeholder(stored) in ("", part)
                except ValueError as error:
                    note(place.problem(at, str(error)))
                    return stored
            else:
                stays = not part
                if part not in ("", stored) and not spot.endswith("]"):  # most texts in a list are not credentials
                    message = "is written out; write ${VAR} and keep it out of the file"
                    if variables_in(part):
                        message = "is used as it stands: a credential is one ${VAR} and nothing else, or a word and one"
                    warn(place.problem(at, message))
            if not (stays and stored):
                return part
            if placeholder(stored) != stored:  # the author of a file could have any variable sent anywhere
                unsaid.add(path)
            return stored

        def to_send(path: tuple[str, ...], part: Any) -> Any:
            if isinstance(part, dict):
                inner = {key: to_send((*path, key), value) for key, value in part.items()}
                return {key: value for key, value in inner.items() if value is not UNSET}
            if isinstance(part, list):
                return [to_send((*path, str(n)), value) for n, value in enumerate(part)]
            return section.stays if path in unsaid else part

        if section.item is None:
            return replace(self, sent=self.value)
        value, sent = dict(self.value), dict(self.value)
        for field in fields_of(section.item):
            if (key := field.encode_name) in section.secret_fields & value.keys():
                if value[key] is None and section.is_secret((key,)):  # usually an oversight
                    message = "is empty: leave it out to keep what is stored; only over REST null removes it"
                    note(self.spot(f"$.{key}", section.aliases).problem(f"$.{section.key}.{name}.{key}", message))
                    del value[key], sent[key]
                    continue
                secret = whole((key,), plain_json(value[key]), old.get(key, ""), f".{key}")
                for into, one in ((value, secret), (sent, to_send((key,), secret))):
                    del into[key]
                    if one not in ("", UNSET):
                        into[key] = msgspec.convert(one, field.type)
        return replace(self, value=value, sent=sent)

    def lacks(self, kind: type[Struct]) -> list[str]:
        """Required fields of a new item that this one lacks."""
        needed = [field.encode_name for field in fields_of(kind) if field.required]
        return [name for name in needed if name != "name" and name not in self.value]

    def spot(self, path: str, aliases: Mapping[str, str]) -> Node:
        """The node at a path of the item, or the deepest one on the way."""
        node, rest = self.node, path[1:]
        while rest:
            names = aliases if node is self.node else {}
            value = node.value
            inner = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
            steps = ((f"[{key}]" if isinstance(key, int) else f".{names.get(key, key)}", one) for key, one in inner)
            matches = [(step, one) for step, one in steps if rest.startswith(step) and rest[len(step) :][:1] in "[."]
            if not matches:
                break
            step, node = max(matches, key=lambda match: len(match[0]))  # a key may contain dots
            rest = rest[len(step) :]
        return node


class Content(Struct):
    """The content of a file: items by section and name, positions of the sections, problems and warnings.

    With a problem nothing of it is imported.
    """

    items: dict[str, dict[str, Item]] = {}
    places: dict[str, Place] = {}
    problems: Problems = msgspec.field(default_factory=Problems)
    warnings: list[Problem] = []


def sections_of(root: Node, known: Collection[str], dialects: Sequence[ConfigDialect] = ()) -> Content:
    """The file's sections; one that is not in `known` is a problem."""
    read = Content()
    if not isinstance(root.value, dict):
        if root.value is not None:
            read.problems.note(root.problem("$", "a configuration is a mapping of sections"))
        return read
    for dialect in dialects:
        root = dialect.convert(root, known, read.problems.note, read.warnings.append)
    names = {*known, *(name for dialect in dialects for name in dialect.sections)}
    for key, node in root.value.items():
        if key in known:
            read.places[key] = root.keys[key]
            _read_section(key, node, read)
        else:
            message = f"there is no section '{key[:100]}'{did_you_mean(key, names)}"
            read.problems.note(root.keys[key].problem(f"$.{key[:100]}", message))
    return read


def _read_section(key: str, node: Node, read: Content) -> None:
    if not isinstance(node.value, dict):
        if node.value is not None:
            read.problems.note(node.problem(f"$.{key}", "is a mapping of names to items, or a list of items"))
        return
    for name, inner in node.value.items():
        own = inner.value.get("name") if isinstance(inner.value, dict) and key != "settings" else None
        if own is not None:
            if own.value != name:
                message = f"is written as '{name[:100]}' already; leave the field out"
                read.problems.note(own.problem(f"$.{key}.{name}.name", message))
            inner = inner.without("name")
        read.items.setdefault(key, {})[name] = Item(node.keys[name], inner)


def unchanged(section: ConfigSection, values: Any, old: Any) -> bool:
    """Whether the values change nothing; fields that `old` omits have their defaults."""
    if section.item is None:
        return same_json(values, old)
    defaults = section.defaults()
    return all(same_json(value, old.get(key, defaults.get(key))) for key, value in values.items())


def parse(raw: bytes, sections: Mapping[str, ConfigSection], dialects: Sequence[ConfigDialect]) -> Content:
    """Parses a file in any dialect; `apply` raises its problems. InvalidConfig if it is not YAML."""
    root, problems = read(raw)
    content = sections_of(root, sections, dialects)
    content.problems += problems
    for key, named in content.items.items():
        for name, item in named.items():
            item.value = _Checking(sections[key], name, content).value(item)
    models = content.items.get("models", {})
    first, *others = [name for name, item in models.items() if item.value.get("is_default")] or [""]
    for name in others:
        message = f"'{first[:100]}' in line {models[first].place.line} is the default one already"
        spot = models[name].spot("$.is_default", {})
        content.problems.note(spot.problem(f"$.models.{name}.is_default", message))
    return content


class _Checking:
    """Converts an item's nodes to its fields, and notes every problem with its position."""

    def __init__(self, section: ConfigSection, name: str, content: Content) -> None:
        self._section = section
        self._path = f"$.{section.key}.{name}"
        self._problems, self._warnings = content.problems, content.warnings
        self._name = name

    def value(self, item: Item) -> Any:
        """The valid fields; for a section of single values the value."""
        kind, node = self._section.item, item.node
        if kind is None:
            return self._plain(node, ())
        known = {field.encode_name: field for field in fields_of(kind)}
        if name := known.pop("name", None):
            try:
                msgspec.convert(self._name, name.type)
            except msgspec.ValidationError as error:
                message = f"its name: {readable(str(error), name.type)}"
                self._problems.note(item.place.problem(self._path, message))
        fields: dict[str, Any] = {}
        if node.value is not None and not isinstance(node.value, dict):
            self._problems.note(node.problem(self._path, "is a mapping of fields"))
            return fields
        for key, inner in (node.value or {}).items():
            field = self._section.aliases.get(key, key)
            path = f"{self._path}.{key[:100]}"
            if field not in known:
                message = f"there is no field '{key[:100]}'{did_you_mean(key, {*known, *self._section.aliases})}"
                self._problems.note(node.keys[key].problem(path, message))
            elif field in fields:
                message = f"is another name of {field}, which is there already"
                self._problems.note(node.keys[key].problem(path, message))
            elif (value := self._fitting(inner, known[field].type, path, (field,))) is not UNSET:
                fields[field] = value
        return fields

    def _fitting(self, node: Node, kind: Any, path: str, keys: tuple[str, ...]) -> Any:
        """The value as its type, or UNSET; each invalid part is noted and removed, so that the next one is found."""
        for _ in range(_MOST):
            notes = len(self._problems), len(self._warnings)
            try:
                return self._converted(node, kind, keys)
            except msgspec.ValidationError as error:
                unset = [one.message.partition(" ")[0] for one in self._warnings[notes[1] :]]
                del self._problems[notes[0] :], self._warnings[notes[1] :]  # the next attempt notes them again
                if not self._taken_out(node, kind, path, keys, str(error), unset):
                    break
        return UNSET

    def _converted(self, node: Node, kind: Any, keys: tuple[str, ...]) -> Any:
        value = self._plain(node, keys)
        return msgspec.convert(value, kind, strict=value == node.plain())  # a variable is text, whatever it holds

    def _taken_out(
        self, node: Node, kind: Any, path: str, keys: tuple[str, ...], message: str, unset: list[str]
    ) -> bool:
        """Notes msgspec's error at its position and removes the invalid part; False if that is the whole value."""
        located = _AT.search(message)
        of_key, at = located.groups() if located else (None, "")
        spot, parent, key = node, node, None

        def same() -> bool:
            notes = len(self._problems), len(self._warnings)
            try:
                self._converted(node, kind, keys)
            except msgspec.ValidationError as error:
                return str(error) == message
            finally:
                del self._problems[notes[0] :], self._warnings[notes[1] :]
            return False

        for name, number in _STEP.findall(at):
            inner = spot.value
            step = name or (_culprit(spot, same) if number == "..." else int(number))
            if not (step in inner if isinstance(inner, dict) else isinstance(step, int) and step < len(inner)):
                break
            path += f".{step}" if isinstance(step, str) else f"[{spot.written(step)}]"
            spot, parent, key = inner[step], spot, step
        place, text = spot.place, readable(message[: located.start()] if located else message, kind)
        if of_key and isinstance(spot.value, dict):
            parent, key = spot, _culprit(spot, same)
            path, place = f"{path}.{key}", spot.keys[key]
        elif (unknown := _UNKNOWN.match(text)) and isinstance(spot.value, dict) and unknown[1] in spot.value:
            parent, key, place = spot, unknown[1], spot.keys[unknown[1]]
            path, text = f"{path}.{key}", f"there is no field '{key[:100]}'{did_you_mean(key, _names(kind))}"
        if unset:
            text += f"; {', '.join(unset[:5])} is not set"
        missing = _MISSING.match(text)
        if not (missing and any(self._meant(path, missing[1], one) for one in self._problems[-_MOST:])):
            self._problems.note(place.problem(path, text))
        if key is not None:
            parent.take_out(key)
        return key is not None

    @staticmethod
    def _meant(path: str, name: str, problem: Problem) -> bool:
        """Whether a noted problem already reports the missing field under a misspelt name."""
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
            self._problems.note(node.problem(path, str(error)))
            return node.value
        self._warnings += [node.problem(path, f"{name} is not set, so this is empty there") for name in missing]
        return text


def _culprit(spot: Node, same: Callable[[], bool]) -> str:
    """The first key of a mapping that fails with the same error, because msgspec does not name it."""
    whole, keys = spot.value, list(spot.value)
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        spot.value = {key: whole[key] for key in half}
        keys = half if same() else keys[len(half) :]
    spot.value = whole
    first: str = keys[0]
    return first


def _names(kind: Any) -> set[str]:
    """The names of all fields within a type, to suggest corrections of misspelt ones."""
    names: set[str] = set()
    waiting = [msgspec.inspect.type_info(kind)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, msgspec.inspect.StructType):
            names |= {field.encode_name for field in one.fields}
        for name in ("type", "item_type", "value_type"):
            if inner := getattr(one, name, None):
                waiting.append(inner)
        waiting += getattr(one, "types", ())
    return names
