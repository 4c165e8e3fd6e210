"""The credentials of a server: resolved for its transport, and masked wherever the server repeats them."""

import re
from typing import NamedTuple

from bytebrew import Call, Engine, Masker, ToolError, argument_credentials, argument_values, is_credential, masker

from . import store
from .config import ServerRow

MIN_CREDENTIAL, MIN_VALUE = 8, 4
"""Minimum length of masked secrets: in tool definitions and results, and in logs and the server's status."""


class Credentials(NamedTuple):
    """The values that are sent to a server, and two maskers: of credentials only, and of every value."""

    args: list[str]
    env: dict[str, str]
    headers: dict[str, str]
    mask_credentials: Masker
    mask_values: Masker


def resolve(server: ServerRow, engine: Engine) -> Credentials:
    """The decrypted credentials of a server; Unprocessable if one cannot be decrypted."""
    env = store.opened(server.env, engine)
    headers = store.opened(server.headers, engine)
    args = store.arguments(server, engine)
    key = secret_of(server, engine)
    sent = [key, *(piece for value in headers.values() for piece in re.split(r"[\s;,=]+", value))]
    named = [value for name, value in env.items() if is_credential(name, value)]
    if server.auth_type == "api_key":
        headers[server.auth_header] = key
    elif server.auth_type == "bearer":
        headers["Authorization"] = f"Bearer {key}"
    return Credentials(
        args,
        env,
        headers,
        masker([*sent, *named, *argument_credentials(args)], MIN_CREDENTIAL),
        masker([*sent, *env.values(), *argument_values(args)], MIN_VALUE),
    )


def secret_of(server: ServerRow, engine: Engine) -> str:
    """The decrypted key of a server, or the client secret with `auth_type: oauth2`."""
    name = server.auth_key_env
    sealed = {name: server.env[name]} if name in server.env else {}
    return store.opened(sealed, engine).get(name) or store.opened({"": server.sealed_key}, engine)[""]


def forwarded_headers(server: ServerRow, call: Call) -> tuple[dict[str, str], dict[str, str]]:
    """The headers of the chat request that the server gets, and that of the trace; ToolError if one cannot be sent.

    None takes the place of a header of the server's own configuration.
    """
    auth = {"api_key": server.auth_header, "bearer": "authorization", "oauth2": "authorization"}
    own = {name.lower() for name in (*server.headers, auth.get(server.auth_type, ""))}
    wanted = {name.lower() for name in server.forward_headers} - own
    forwarded = {name: value for name, value in call.headers.items() if name in wanted}
    if server.type != "stdio" and (odd := [name for name, value in forwarded.items() if not is_plain(value)]):
        raise ToolError(f"The header {odd[0]} of the request is not plain text; '{server.name}' cannot be sent it")
    # in both places: one HTTP request may carry several messages, and only HTTP's own is seen by proxies
    trace = {"traceparent": call.traceparent} if call.traceparent and "traceparent" not in own else {}
    return forwarded, trace


def is_plain(value: str) -> bool:
    """Whether a text is a valid header value."""
    return value.isascii() and value.isprintable()
