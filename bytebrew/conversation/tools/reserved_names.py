"""Names of tools that are the engine's and its plugins' alone."""

from collections.abc import Callable, Iterable


def reserved_names(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A function that tells whether a name matches one of these, ignoring case; `*` at the end is a wildcard."""
    folded = [pattern.casefold() for pattern in patterns]
    names = frozenset(folded)
    beginnings = tuple(pattern[:-1] for pattern in folded if pattern.endswith("*"))

    def is_reserved(name: str) -> bool:
        name = name.casefold()
        return name in names or name.startswith(beginnings)

    return is_reserved
