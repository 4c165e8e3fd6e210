"""Paths: routes by path and method, and the names that no resource can have, for a route has them."""

from collections.abc import Iterable, Mapping

from bytebrew.base.errors import BootError, Detail, InvalidRequest
from bytebrew.contract.route import Route

TAKEN = "is the name of a route; take another"


def grouped(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """The routes by path and method; BootError where two are the same."""
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        methods = found.setdefault(route.path, {})
        if route.method in methods:
            raise BootError(f"{route.method} {route.path} is there twice; a plugin's route takes another path")
        methods[route.method] = route
    return found


def taken(paths: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """By the path of a collection, the words that stand in one path where others have the name of a resource.

    So `registry` is taken at `/models`, for there is `/models/registry` beside `/models/{name}`.
    """
    steps = {tuple(path.split("/")) for path in paths}
    found: dict[str, set[str]] = {}
    for path in steps:
        for n, step in enumerate(path):
            if step.startswith("{"):
                words = {other[n] for other in steps if other[:n] == path[:n] and len(other) > n}
                found.setdefault("/".join(path[:n]), set()).update(word for word in words if not word.startswith("{"))
    return {path: frozenset(words) for path, words in found.items() if words}


def check(name: object, taken: frozenset[str]) -> None:
    """Raises InvalidRequest for a name that a route has."""
    if name in taken:
        raise InvalidRequest(f"'{name}' {TAKEN}", details=[Detail("$.name", TAKEN)])
