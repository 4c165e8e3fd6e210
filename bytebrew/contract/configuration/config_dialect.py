"""Dialects of the configuration file, other formats of it, and the values of a file with their positions."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from bytebrew.base.errors import Detail


class Problem(Detail, frozen=True):
    """An error at a position in the file; lines and columns count from 1."""

    line: int
    column: int


class Place(NamedTuple):
    """A position in the file; line and column count from 1."""

    line: int
    column: int

    def problem(self, path: str, message: str) -> Problem:
        """An error at this position."""
        return Problem(path[:300], message[:500], *self)


@dataclass(slots=True)
class Node:
    """A value of the file: a scalar, a list of nodes, or nodes by key; `keys` are the positions of the keys.

    `size` is the number of values in it, itself included; `height` is the number of its levels. `gone` are the original
    indexes of items that were removed from a list.
    """

    value: Any
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1
    height: int = 1
    gone: list[int] = field(default_factory=list)

    def holds(self, inner: "Node") -> None:
        """Adds the size and height of a part."""
        self.size += inner.size
        self.height = max(self.height, inner.height + 1)

    def take_out(self, key: Any) -> None:
        """Removes a part; `written` still returns the original indexes of the others."""
        if isinstance(self.value, list):
            self.gone.append(self.written(key))
        del self.value[key]

    def written(self, index: int) -> int:
        """The index that an item of the list had before others were removed."""
        for gone in sorted(self.gone):
            index += gone <= index
        return index

    def problem(self, path: str, message: str) -> Problem:
        """An error at the position of this value."""
        return self.place.problem(path, message)

    def without(self, key: str) -> "Node":
        """The mapping without a key."""
        rest = {name: one for name, one in self.value.items() if name != key}
        return Node(rest, self.place, self.keys, size=self.size)

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: one.plain() for key, one in self.value.items()}
        return [one.plain() for one in self.value] if isinstance(self.value, list) else self.value


class ConfigDialect:
    """Another format of the configuration file, accepted besides the engine's own.

    `sections` are top-level keys that only this format has.
    """

    sections: ClassVar[frozenset[str]] = frozenset()

    def convert(
        self, root: Node, known: Collection[str], note: Callable[[Problem], None], warn: Callable[[Problem], None]
    ) -> Node:
        """The file with each of the `known` sections as a mapping of names to items, and the rest unchanged.

        All positions are kept. `note` reports an error that prevents the import, `warn` one that does not.
        """
        raise NotImplementedError
