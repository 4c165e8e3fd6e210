"""Translates statements that are written for SQLite too: parameters, casts, and what PostgreSQL spells otherwise."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

_TOKENS = re.compile(
    r"""[xX]'[0-9a-fA-F]*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|::|:[A-Za-z_]\w*|\?\d*|\w+|\s+|.""",
    re.DOTALL,
)
_TYPES = {"blob": "bytea", "real": "double precision"}
_OPERAND_ENDS = {
    "and",
    "or",
    "escape",
    "order",
    "group",
    "limit",
    "then",
    "else",
    "end",
    "union",
    "on",
    "returning",
    "as",
    "collate",
}
_SEED = re.compile(r"(\(\s*select \$\d+)(?= union\b)", re.IGNORECASE)
"""A parameter that a recursive query begins with: it needs the collation of the column that follows."""
_FUNCTIONS = {"json_object": "json_build_object", "like": "ilike"}


class Statement(NamedTuple):
    """A translated statement; `order` are the parameters in the order of `$1`, `$2`...: indexes, or names."""

    text: str
    order: tuple[int, ...] | tuple[str, ...]

    def values(self, parameters: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
        """The values of `$1`, `$2`..."""
        if isinstance(parameters, Mapping):
            return [parameters[name] for name in self.order]  # type: ignore[index]  # names, if they are a mapping
        if len(parameters) != len(self.order):
            raise TypeError(f"{len(self.order)} values are needed, {len(parameters)} given")
        return parameters


@lru_cache(maxsize=2048)
def translate(sql: str) -> Statement:
    """The statement for PostgreSQL."""
    marks = _Marks()
    pieces = [marks.place(piece) for piece in split(sql)]
    text = _SEED.sub(r'\1 collate "C"', "".join(_rewritten(pieces)).strip())
    return Statement(text, marks.order)


def split(sql: str) -> list[str]:
    """The pieces of a text, spaces and comments included: joined they are the text."""
    return _TOKENS.findall(sql)


def blank(piece: str) -> bool:
    """Whether a piece is a space or a comment."""
    return piece.isspace() or piece.startswith(("--", "/*"))


def closing(pieces: Sequence[str], opening: int) -> int:
    """The index of the bracket that closes the one at an index."""
    depth = 0
    for at in range(opening, len(pieces)):
        depth += (pieces[at] == "(") - (pieces[at] == ")")
        if depth == 0:
            return at
    raise ValueError(f"a bracket is not closed: {''.join(pieces)}")


class _Marks:
    """Numbers the parameters as SQLite does: a `?` has the number after the highest so far."""

    def __init__(self) -> None:
        self._highest = 0
        self._names: dict[str, int] = {}

    def place(self, piece: str) -> str:
        if piece[0] == "?":
            number = int(piece[1:]) if len(piece) > 1 else self._highest + 1
            self._highest = max(self._highest, number)
            return f"${number}"
        if piece[0] == ":" and piece not in ("::", ":"):
            return f"${self._names.setdefault(piece[1:], len(self._names) + 1)}"
        return piece

    @property
    def order(self) -> tuple[int, ...] | tuple[str, ...]:
        return tuple(self._names) if self._names else tuple(range(self._highest))


def _rewritten(pieces: Sequence[str]) -> Iterator[str]:
    at = 0
    ignoring = False
    while at < len(pieces):
        piece, word = pieces[at], pieces[at].lower()
        if word == "cast" and (cast := _cast(pieces, at)) is not None:
            at, text = cast
            yield text
        elif word == "indexed":
            at = _after(pieces, at, 2)
        elif word == "insert" and [*_next(pieces, at, 3)] == ["insert", "or", "ignore"]:
            ignoring = True
            yield piece
            at = _after(pieces, at, 2)
        elif word == "like":
            end = _operand_end(pieces, at + 1)
            yield "ilike"
            yield from _rewritten(pieces[at + 1 : end])
            if next(_next(pieces, end, 1), "") != "escape":
                yield " escape '' "
            at = end - 1
        elif word == "json_group_array":
            end = closing(pieces, at + 1)
            yield f"coalesce(json_agg{''.join(_rewritten(pieces[at + 1 : end + 1]))}, '[]'::json)"
            at = end
        elif piece[0] in "xX" and piece[1:2] == "'":
            yield rf"'\x{piece[2:-1]}'::bytea"
        else:
            yield _FUNCTIONS.get(word, piece)
        at += 1
    if ignoring:
        yield " on conflict do nothing"


def _cast(pieces: Sequence[str], at: int) -> tuple[int, str] | None:
    """The end of a cast and its translation; None for a cast to a type that both have.

    A text has the collation of the columns, which the parts of a recursive query must share.
    """
    opening = _after(pieces, at, 1)
    end = closing(pieces, opening)
    inner = [n for n in range(opening + 1, end) if not blank(pieces[n])]
    kind = pieces[inner[-1]].lower()
    value = "".join(_rewritten(pieces[opening + 1 : inner[-2]])).strip()
    if kind == "integer":
        return end, f"integer_of({value})"
    if kind == "text":
        return end, f'cast({value} as text) collate "C"'
    if kind in _TYPES:
        return end, f"cast({value} as {_TYPES[kind]})"
    return None


def _operand_end(pieces: Sequence[str], at: int) -> int:
    """The index behind the operand of an operator that begins at an index."""
    depth = 0
    while at < len(pieces):
        piece = pieces[at]
        if depth == 0 and (piece in (")", ",", ";") or piece.lower() in _OPERAND_ENDS):
            break
        depth += (piece == "(") - (piece == ")")
        at += 1
    while blank(pieces[at - 1]):
        at -= 1
    return at


def _next(pieces: Sequence[str], at: int, count: int) -> Iterator[str]:
    """The next pieces that are no spaces, in lower case."""
    for piece in pieces[at:]:
        if count == 0:
            return
        if not blank(piece):
            count -= 1
            yield piece.lower()


def _after(pieces: Sequence[str], at: int, count: int) -> int:
    """The index of the piece that is `count` pieces behind another, spaces not counted."""
    while count:
        at += 1
        count -= not blank(pieces[at])
    return at
