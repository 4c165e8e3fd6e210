"""A request reaches the route that Starlette would find: the first one whose path matches."""

from functools import partial
from itertools import product
from typing import Any

from starlette.routing import compile_path

from bytebrew import Request, Route
from bytebrew.testing import plugin, served_engine

SEGMENTS = ("api", "v1", "known", "{}", "k{}", "{}n")
"""Parts of a path; `{}` is a parameter."""
PATHS = [
    "/" + "/".join(part.replace("{}", f"{{p{n}}}") for n, part in enumerate(parts))
    for length in (2, 3, 4)
    for parts in product(SEGMENTS, repeat=length)
    if length < 4 or (parts[0] == "api" and "{}" in parts)
]
SENT = ["/" + "/".join(parts) for n in (2, 3, 4) for parts in product(("api", "v1", "known", "kn", "v1n"), repeat=n)]


async def test_a_path_has_the_first_route_that_matches() -> None:
    async def answer(path: str, request: Request[None]) -> dict[str, Any]:
        return {"route": path, "path": dict(request.path)}

    def register_routes(register: Any) -> None:
        for path in PATHS:
            run = partial(answer, path)
            register(Route(method="GET", path=path, scope=None, run=run, summary="Say which"))

    patterns = [(path, compile_path(path)[0]) for path in sorted(PATHS, key=lambda path: "{" in path)]
    async with served_engine(plugin(register_routes=register_routes)) as (_, client):
        for sent in SENT:
            found = ((path, match) for path, pattern in patterns if (match := pattern.match(sent)))
            path, match = next(found, ("", None))
            got = await client.get(sent)
            assert (got.status_code, sent) == (200 if match else 404, sent)
            if match:
                assert got.json() == {"route": path, "path": match.groupdict()}, sent
