"""The route table as tests use it: every route with a path, a body that fits, and the shape of every refusal."""

import re
import sqlite3
import tempfile
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from bytebrew_tokens.store import CreatedToken, NewToken, create
from msgspec import inspect

from bytebrew.base.errors import Detail, EngineError, InvalidRequest
from bytebrew.contract.auth import Scopes
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Face, Route
from bytebrew.engine import Engine
from bytebrew.web.routes import every

SCOPES = {
    "chat": 1,
    "tasks": 2,
    "agents:read": 4,
    "config": 8,
    "admin": 16,
    "agents:write": 32,
    "models:read": 64,
    "models:write": 128,
    "mcp:read": 256,
    "mcp:write": 512,
    "schemas:read": 4096,
    "schemas:write": 8192,
    "approvals": 16384,
    "public": 32768,
    "tasks:callback": 65536,
}
"""The scopes of an engine with the bundled plugins, each with its bit."""
BINDABLE = {"chat", "tasks", "approvals", "public"}


def table(engine: Engine) -> list[Route]:
    """Every route of the API; the addresses of pages are in `tests/plugins/test_page.py`."""
    return [route for route in every(engine) if not route.page]


def installed() -> list[Route]:
    """Every route that an engine with the installed plugins would serve, to name tests after before one runs."""
    with tempfile.TemporaryDirectory() as folder:
        return table(Engine({"BYTEBREW_DATA_DIR": folder}))


def known_scopes() -> Scopes:
    """The scopes of an engine with the installed plugins."""
    with tempfile.TemporaryDirectory() as folder:
        return Engine({"BYTEBREW_DATA_DIR": folder}).scopes


def path_of(route: Route, key: str = "nothing") -> str:
    """The route's path with every parameter filled in."""
    return re.sub(r"\{\w+(:\w+)?\}", key, route.path)


def label(route: Route) -> str:
    """How a failure names the route."""
    return f"{route.method} {route.path}"


def has_struct(route: Route) -> bool:
    """Whether the route's body is a struct that is read from JSON."""
    return isinstance(route.body, type) and issubclass(route.body, msgspec.Struct)


def sample(kind: Any) -> Any:
    """A value of a type, as JSON would carry it; structs with what they require and no more."""
    return _sample(inspect.type_info(kind))


def _sample(kind: inspect.Type) -> Any:
    match kind:
        case inspect.Metadata():
            return _sample(kind.type)
        case inspect.StructType():
            return {field.encode_name: _sample(field.type) for field in kind.fields if field.required}
        case inspect.StrType(pattern=str(pattern)) if "https?" in pattern:
            return "https://example.com/"
        case inspect.StrType():
            return "a" * max(kind.min_length or 0, 1)
        case inspect.BoolType():
            return True
        case inspect.IntType() | inspect.FloatType():
            return kind.ge or 1
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.VarTupleType() | inspect.ListType():
            return [_sample(kind.item_type)] * (kind.min_length or 0)
        case inspect.DictType():
            return {_sample(kind.key_type): _sample(kind.value_type)} if kind.min_length else {}
        case inspect.UnionType():
            return _sample(next(one for one in kind.types if not isinstance(one, inspect.NoneType)))
        case inspect.AnyType():
            return "anything"
    raise AssertionError(f"no sample for {kind}; add one")


async def token_with(engine: Engine, *scopes: str, **fields: Any) -> CreatedToken:
    """A new API token; its name is that of its scopes unless it is given."""
    fields.setdefault("name", " ".join(scopes))
    return await engine.db.write(create, engine.scopes, NewToken(scopes=scopes, **fields))


def all_but(*scopes: str) -> tuple[str, ...]:
    """Every scope besides these, `admin` and `public`, which stands alone."""
    return tuple(scope for scope in SCOPES if scope not in (*scopes, "admin", "public"))


def check_refusal(response: httpx.Response, where: str = "", face: Face | None = None) -> dict[str, Any]:
    """The body of a refusal, which has the one error shape, or that of a face; `where` is told if it has not."""
    said = f"{where} -> {response.status_code} {response.text[:500]}"
    if face is not None:
        return check_faces_refusal(response, face, said)
    assert 400 <= response.status_code < 500 or response.status_code == 503, said
    assert response.headers["content-type"] == "application/json", said
    body: dict[str, Any] = response.json()
    assert body.keys() - {"details"} == {"error", "message"}, said
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", body["error"]), said
    assert isinstance(body["message"], str), said
    assert 0 < len(body["message"]) <= 2000, said
    assert not body["message"].endswith("."), said
    for detail in body.get("details", [{"path": "$", "message": "none"}]):
        assert detail.keys() - {"line", "column"} == {"path", "message"}, said
        assert detail["path"].startswith("$"), said
        assert detail["message"], said
    return body


def check_faces_refusal(response: httpx.Response, face: Face, said: str) -> dict[str, Any]:
    """The body of a refusal in the shape that a face gives its errors."""
    body: dict[str, Any] = response.json() if response.headers["content-type"] == "application/json" else {}
    shapes = []
    for error in (EngineError("why"), InvalidRequest("why", details=[Detail("$.a", "is wrong")])):
        made = face.refusal(error)
        assert response.headers["content-type"] == made.headers.get("content-type", "application/json"), said
        shapes.append({} if isinstance(made.body, bytes) else shape(msgspec.to_builtins(made.body)))
    assert response.status_code < 500 or response.status_code == 503, said
    assert shape(body) in shapes, said
    assert response.content, said
    return body


def shape(value: Any) -> Any:
    """The names of a JSON object and of those within it, without those that only some errors have."""
    if not isinstance(value, dict):
        return None
    return {name: shape(inner) for name, inner in value.items() if name not in ("id", "data", "details")}


def trace(conn: Connection, callback: Callable[[str], None] | None) -> None:
    """Calls back with every statement of a connection from now on, or no longer."""
    if isinstance(conn, sqlite3.Connection):
        conn.set_trace_callback(callback)
        return
    for name in ("execute", "executemany", "script"):
        vars(conn).pop(name, None)
        if callback is not None:
            setattr(conn, name, _traced(getattr(conn, name), callback))


def _traced(run: Callable[..., Any], callback: Callable[[str], None]) -> Callable[..., Any]:
    def traced(sql: str, *parameters: Any) -> Any:
        callback(sql)
        return run(sql, *parameters)

    return traced
