"""Checks the items that plugins register, for errors that would otherwise only appear in a request."""

import inspect
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from msgspec import json

from bytebrew.contract import hookspecs
from bytebrew.contract.auth import Scope
from bytebrew.contract.auth_mode import AuthMode
from bytebrew.contract.provider import Provider
from bytebrew.contract.route import Parameter, Route

OWN = {
    "register_tools": ("run", "input_schema", "description"),
    "register_toolsets": ("tools",),
    "register_config_sections": ("export", "put", "delete"),
    "register_config_dialects": ("convert",),
    "register_model_choosers": ("choose",),
    "register_spend_guards": ("reserve",),
}
"""Attributes of a registered item that its base class does not define."""
AWAITED = {
    "register_tools": "run",
    "register_toolsets": "tools",
    "register_auth_modes": "identify",
    "register_guards": "check",
    "register_model_choosers": "choose",
    "register_spend_guards": "reserve",
    "register_routes": "run",
}
"""The attribute of a registered item that must be an async function."""


def check(hook: str, item: Any) -> None:
    """Raises TypeError for an item that could not be used."""
    kind, base = type(item), hookspecs.DECLARING[hook]
    for name in OWN.get(hook, ()):
        if name not in getattr(item, "__dict__", ()) and getattr(kind, name, None) is getattr(base, name, None):
            raise TypeError(f"{kind.__name__} has no '{name}'")
    if hook in ("register_recorders", "register_subscribers") and inspect.iscoroutinefunction(inspect.unwrap(item)):
        raise TypeError(f"{item.__qualname__} runs within a transaction: it must be a plain function")
    if hook in AWAITED:
        function = inspect.unwrap(getattr(item, AWAITED[hook]))
        if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(function.__call__)):
            raise TypeError(f"{getattr(function, '__qualname__', function)} must be an async function")
    if isinstance(item, AuthMode):
        if kind.authenticate is AuthMode.authenticate and kind.identify is AuthMode.identify:
            raise TypeError(f"{kind.__name__} has no 'authenticate' and no 'identify'")
        if not inspect.iscoroutinefunction(inspect.unwrap(item.authenticate)):
            raise TypeError(f"{kind.__name__}.authenticate must be an async function")
    if isinstance(item, Provider):
        if kind.stream is Provider.stream and kind.embed is Provider.embed:
            raise TypeError(f"{kind.__name__} has no 'stream'")
        function = inspect.unwrap(item.stream)
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"{kind.__name__}.stream must be an async generator: `async def` with `yield`")
    if isinstance(item, Route) and not (item.path.startswith("/") and item.method.isupper()):
        raise TypeError(f"'{item.method} {item.path}' is no route; write it like 'GET /api/v1/dice'")
    if isinstance(item, Scope) and (item.bit.bit_count() != 1 or not 0 < item.bit < 1 << 31):
        raise TypeError(f"the bit of the scope '{item.name}' is {item.bit}, which is no power of two below 2**31")


def check_types(routes: Sequence[Route]) -> None:
    """Raises TypeError for types that the API document cannot describe; checks all at once, as each alone is slow."""
    kinds = [kind for route in routes for kind in (route.body, route.answer, *route.also.values())]
    parameters = [one for route in routes for one in (*route.query.values(), *route.headers.values())]
    kinds += [one.type for one in parameters if isinstance(one, Parameter)]
    try:
        _check_described(tuple(kinds))
    except TypeError as error:
        if len(routes) > 1:
            for route in routes:
                check_types([route])
        raise TypeError(f"{routes[0].path}: {str(error).splitlines()[-1]}") from None


def _check_described(kinds: tuple[Any, ...]) -> None:
    try:
        hash(kinds)
    except TypeError:  # such as that of `Annotated[int, {}]`
        json.schema_components(kinds)
    else:
        _check_once(kinds)


@lru_cache(64)  # tests build many engines in a process; bounded, as a plugin may create types for each
def _check_once(kinds: tuple[Any, ...]) -> None:
    json.schema_components(kinds)
