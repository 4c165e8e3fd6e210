"""Reads YAML, within limits, into a tree with the position of each value, and writes it in one format."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scanner import Scanner, ScannerError

from bytebrew.base.errors import InvalidRequest, Unprocessable
from bytebrew.base.validation import NUL
from bytebrew.contract.configuration.config_dialect import Node, Place, Problem

LF = "\n"
MAX_DEPTH = 110
"""Limit of nesting: values that REST accepts at its limit are a few levels deeper in a file."""
MAX_NODES = 50_000
"""Limit of values in a small file; those of an alias count each time that it is used."""
CHARACTERS_A_NODE = 16
"""Longer files may have more values: one per 16 characters."""
MAX_DIGITS = 4300
"""Limit of digits in a number, which is Python's."""
MAX_PROBLEMS = 1000
_CORE_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_STRING = "tag:yaml.org,2002:str"
_FOREIGN_TAG = re.compile(
    r"tag:yaml\.org,2002:(binary|omap|pairs|set|timestamp|python/(object|module|name|tuple))(?![^/:])"
)
_OF_A_TAG = re.compile("(scanning|parsing) an? tag|tag handle")
_NO_TAG = "begins with !, which makes a tag"
_NOT_READ = "which is not read here; a text is to be quoted"
_KEYWORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_KEYWORDS |= {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PLAIN = re.compile(r"[^\W\d](?:[\w ./@$(){}+=,;!?'-]|:(?=\w|/))*(?<! )|\$\{\w+\}")
_AMBIGUOUS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
"""Scalars that YAML 1.1 or 1.2 does not read as text."""
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NO_BLOCK = re.compile(rf"[\x00-\x09\x0b-\x1f]|^ +$|{_UNPRINTABLE.pattern}", re.MULTILINE)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Problems(list[Problem]):
    """The problems of a file, up to the number at which the rest of it is not looked at."""

    def note(self, problem: Problem) -> None:
        """Adds a problem; raises InvalidConfig once there are too many."""
        self.append(problem)
        if len(self) >= MAX_PROBLEMS:
            raise InvalidConfig(self)


class InvalidConfig(InvalidRequest):
    """A configuration that cannot be imported, with all its problems."""

    def __init__(self, problems: list[Problem]) -> None:
        first, *more = problems = sorted(problems, key=lambda problem: (problem.line, problem.column))[:MAX_PROBLEMS]
        words = f"line {first.line}, column {first.column}: {first.path}: {first.message}"[:1000].rstrip(".")
        super().__init__(f"{words} (and {len(more)} more)" if more else words, details=problems)


def contents(path: Path, most: int) -> bytes:
    """The bytes of a file; Unprocessable if it cannot be read or is longer than BYTEBREW_MAX_BODY_BYTES, `most`."""
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise Unprocessable(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > most:
        raise Unprocessable(f"{path} is longer than the {most} bytes of BYTEBREW_MAX_BODY_BYTES")
    return raw


def read(raw: bytes) -> tuple[Node, Problems]:
    """The whole file, and the problems that do not stop the parser; InvalidConfig for those that do."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidConfig([Problem("$", "is not UTF-8 here", *_end(error.object[: error.start].decode()))]) from error
    reader = _Reader(text)
    try:
        return reader.document(), reader.problems
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        words = " ".join(f"{error.problem or error.context}".split())
        if _OF_A_TAG.search(f"{error.context} {error.problem}"):  # it may be a password, which must not be in an answer
            words = f"{_NO_TAG}, {_NOT_READ}"
        raise InvalidConfig([*reader.problems, Problem("$", words[:300], *place)]) from error
    except YAMLError as error:  # a character that YAML forbids
        place = _end(text[: getattr(error, "position", 0)])
        words = "is a character that YAML does not allow"
        raise InvalidConfig([*reader.problems, Problem("$", words, *place)]) from error


def _end(text: str) -> Place:
    return Place(text.count(LF) + 1, len(text) - text.rfind(LF))


class _Scanner(Scanner):
    """Rejects long tags and directives: ruamel.yaml reads them in quadratic time."""

    def scan_tag(self) -> Any:
        self._check_length("a tag", " \t\r\n\0,]}")
        return super().scan_tag()

    def scan_directive(self) -> Any:
        self._check_length("a directive", "\r\n\0")
        return super().scan_directive()

    def _check_length(self, noun: str, ends: str) -> None:
        if not set(self.reader.prefix(200)).intersection(ends):
            raise ScannerError(None, None, f"{noun} is longer than 200 characters", self.reader.get_mark())


class _Reader:
    def __init__(self, text: str) -> None:
        self.problems = Problems()
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner = _Scanner
        self._events: Iterator[Any] = iter(yaml.parse(io.StringIO(text)))
        self._anchors: dict[str, Node] = {}
        self._left = self._most = max(MAX_NODES, len(text) // CHARACTERS_A_NODE)

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, events.DocumentStartEvent):
                if root is not None:
                    raise InvalidConfig([*self.problems, Problem("$", "is a second document", *_place(event))])
                root = self._node(next(self._events), 1)
        return root or Node(None, Place(1, 1))

    def _node(self, event: Any, depth: int) -> Node:
        place = _place(event)
        if isinstance(event, events.AliasEvent):
            known = self._anchors.get(event.anchor)
            if known is None:
                raise self._refusal(place, "begins with *, which names no value before it; a text is to be quoted")
            self._take(known.size, depth + known.height - 1, place)
            return known
        self._take(1, depth, place)
        tag = self._check_tag(event, place)
        if isinstance(event, events.ScalarEvent):
            plain = not event.style
            node = Node(self._scalar(event, place, plain and tag not in ("!", _STRING)), place)
        elif isinstance(event, events.SequenceStartEvent):
            node = self._list(place, depth)
        else:
            node = self._mapping(place, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _check_tag(self, event: Any, place: Place) -> str:
        tag = str(event.tag) if event.tag else ""
        if tag not in ("", "!") and tag not in _CORE_TAGS:
            known = _FOREIGN_TAG.match(tag)  # others may be a password
            message = f"has the tag {known[0]}" if known else _NO_TAG
            self._note(place, f"{message}, {_NOT_READ}")
        return tag

    def _scalar(self, event: Any, place: Place, resolves: bool) -> Any:
        text = self._whole(event.value, place)
        try:
            return scalar(text) if resolves else text
        except ValueError as error:
            self._note(place, str(error))
            return None

    def _whole(self, text: str, place: Place) -> str:
        if "\0" in text:
            self._note(place, NUL)
            return ""
        if _SURROGATE.search(text):  # JSON escapes some characters as two surrogates
            try:
                return text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                self._note(place, "holds half a character")
                return ""
        return text

    def _list(self, place: Place, depth: int) -> Node:
        node = Node([], place)
        while not isinstance(event := next(self._events), events.SequenceEndEvent):
            node.value.append(inner := self._node(event, depth + 1))
            node.holds(inner)
        return node

    def _mapping(self, place: Place, depth: int) -> Node:
        node = Node({}, place)
        merged: list[Node] = []
        while not isinstance(event := next(self._events), events.MappingEndEvent):
            where = _place(event)
            if not isinstance(event, events.ScalarEvent):
                raise self._refusal(where, "a key is a single word or number")
            key = self._whole(event.value, where)
            self._check_tag(event, where)
            inner = self._node(next(self._events), depth + 1)
            node.holds(inner)
            if key == "<<" and not event.style:
                merged += inner.value if isinstance(inner.value, list) else [inner]
            elif key in node.value:
                self._note(where, f"the key '{key[:100]}' stands in line {node.keys[key].line} already")
            else:
                node.value[key], node.keys[key] = inner, where
        for other in merged:
            if not isinstance(other.value, dict):
                self._note(other.place, "<< takes in a mapping")
                continue
            for key, inner in other.value.items():
                if key not in node.value:
                    node.value[key], node.keys[key] = inner, other.keys[key]
        return node

    def _take(self, size: int, depth: int, place: Place) -> None:
        if depth > MAX_DEPTH:
            raise self._refusal(place, f"is nested deeper than {MAX_DEPTH} levels")
        self._left -= size
        if self._left < 0:
            raise self._refusal(place, f"the file has more than {self._most} values, aliases counted each time")

    def _note(self, place: Place, message: str) -> None:
        self.problems.note(place.problem("$", message))

    def _refusal(self, place: Place, message: str) -> InvalidConfig:
        return InvalidConfig([*self.problems, Problem("$", message, *place)])


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def scalar(text: str) -> Any:
    """The value of a plain scalar (YAML 1.2, core schema); ValueError for a number that JSON cannot represent."""
    if text in _KEYWORDS:
        return _KEYWORDS[text]
    if _INT.fullmatch(text):
        if len(text) > (64 if text[1:2] in ("o", "x") else MAX_DIGITS):
            raise ValueError("is a number of too many digits")
        return int(text, 0) if text[1:2] in ("o", "x") else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text.replace(".inf", "inf").replace(".nan", "nan")) if text[-1] not in "fFnN" else float("inf")
        if number in (float("inf"), float("-inf")):
            raise ValueError("is no finite number")
        return number
    return text


def write(value: Mapping[str, Any]) -> str:
    """The value as YAML in block style, with the same bytes for the same value; quotes ambiguous scalars."""
    return "".join(f"{line}\n" for line in _lines(value, ""))


def _lines(value: Mapping[str, Any] | list[Any], pad: str) -> Iterator[str]:
    marked = ((f"{_key(key, pad)}:", one) for key, one in value.items()) if isinstance(value, Mapping) else None
    for mark, one in marked or (("-", one) for one in value):
        if isinstance(one, Mapping | list) and one:
            inner = list(_lines(one, f"{pad}  "))
            if mark == "-":
                yield f"{pad}- {inner.pop(0).lstrip()}"
            else:
                yield pad + mark
            yield from inner
        elif isinstance(one, str) and _is_block(one):
            yield f"{pad}{mark} |{'' if one.endswith(LF) else '-'}"
            yield from (f"{pad}  {line}" if line else "" for line in one.removesuffix(LF).split(LF))
        else:
            yield f"{pad}{mark} {_text(one) if isinstance(one, str) else json.dumps(one)}"


def _key(key: str, pad: str) -> str:
    text = _text(key)  # YAML limits a simple key to 1024 characters
    return text if len(text) < 1000 else f"? {text}{LF}{pad}"


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _AMBIGUOUS:
        return text
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _is_block(text: str) -> bool:
    return LF in text and text[0] not in " \n" and text[-2:] != "\n\n" and not _NO_BLOCK.search(text)
