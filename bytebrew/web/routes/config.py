"""The configuration as one file: out, in, and anew."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Literal

import anyio.to_thread

from bytebrew.base.errors import Detail, InvalidRequest, UnsupportedMediaType
from bytebrew.config import import_export
from bytebrew.config.import_export import Plan
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Parameter, Reply, Request, Route
from bytebrew.engine import Engine
from bytebrew.store.configuration import agents, models

MEDIA = ("application/x-yaml", "application/yaml", "text/yaml", "text/x-yaml", "application/json")


async def export_config(engine: Engine, request: Request[None]) -> Reply:
    """All that the caller may import, as YAML, each credential as `${VAR}`; the ETag is the version of everything."""
    shown, version = await engine.db.read(import_export.export, engine)
    seen = {key: one for key, one in shown.items() if import_export.may_see(request.actor, engine.sections[key])}
    text = await anyio.to_thread.run_sync(import_export.text_of, seen)
    headers = {
        "Content-Type": MEDIA[0],
        "Content-Disposition": "attachment; filename=bytebrew-config.yaml",
        "ETag": f'"{version}"',
    }
    return Reply(body=text.encode(), headers=headers)


async def import_config(engine: Engine, request: Request[AsyncIterator[bytes]]) -> Reply:
    """Merges a YAML or JSON file by name, all of it or nothing; every problem is in `details`, with line and column."""
    kind = request.headers.get("content-type", MEDIA[0]).partition(";")[0].strip().lower()
    if kind not in MEDIA:
        raise UnsupportedMediaType(f"Send the file with Content-Type: {MEDIA[0]}")
    mode = _choice(request, "mode", "merge", "replace")
    dry_run = _choice(request, "dry_run", "false", "true") == "true"
    match = request.headers.get("if-match", "*")
    expected = () if match.strip() == "*" else [one.strip().removeprefix("W/").strip('"') for one in match.split(",")]
    body = b"".join([piece async for piece in request.body])
    if not body:
        raise InvalidRequest("The body is empty; send the file with --data-binary", details=[Detail("$", "is empty")])

    def record(conn: Connection, plan: Plan) -> None:
        request.record(conn, answer(plan, dry_run=dry_run))

    plan = await import_export.take_in(
        engine, body, request.actor, record=record, replace=mode == "replace", dry_run=dry_run, expected=expected
    )
    return Reply(body=answer(plan, dry_run=dry_run), headers={"ETag": f'"{plan.version}"'})


def answer(plan: Plan, *, dry_run: bool) -> dict[str, Any]:
    """The body of an import's answer: a count per section, then the change of each item."""
    counts = {f"{key}_imported": count for key, count in plan.imported.items()}
    rest = {"dry_run": dry_run, "version": plan.version, "changes": plan.changes, "warnings": plan.warnings}
    return {"status": "ok", "agents_imported": 0, "models_imported": 0, "tools_imported": 0, **counts, **rest}


async def reload_config(engine: Engine, request: Request[None]) -> dict[str, Any]:
    """Takes in BYTEBREW_CONFIG again, if there is one, and reconnects; turns that run keep what they began with."""
    if engine.settings.core.config is not None:
        await import_export.load(
            engine, engine.settings.core.config, lambda conn, plan: request.record(conn, _loaded(conn))
        )
    await import_export.reconnect(engine, engine.sections)
    return await engine.db.read(_loaded)


def _loaded(conn: Connection) -> dict[str, Any]:
    return {"status": "ok", "agents_loaded": agents.count(conn), "models_loaded": len(models.list_all(conn))}


def _choice(request: Request[Any], name: str, default: str, other: str) -> str:
    value = request.query.get(name, default)
    if value not in (default, other):
        message = f"{name} is {default} or {other}"
        raise InvalidRequest(message, details=[Detail(f"$.{name}", f"{default} or {other}")])
    return value


_VERSION = "the version of everything, for If-Match"


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/config/export",
            "config",
            partial(export_config, engine),
            "Export the configuration",
            gives=MEDIA[:1],
            sends={"ETag": _VERSION, "Content-Disposition": "a name for the file"},
        ),
        Route(
            "POST",
            "/api/v1/config/import",
            "config",
            partial(import_config, engine),
            "Import a configuration",
            answer=dict[str, Any],
            stream_body=True,
            in_memory=True,
            example={
                "models": {"local": {"type": "ollama", "model_name": "llama3.2"}},
                "agents": {"clerk": {"model": "local"}},
            },
            takes={kind: {"type": ["object", "null"]} for kind in (MEDIA[0], MEDIA[-1])},
            query={
                "dry_run": Parameter("true answers what would change and changes nothing", bool),
                "mode": Parameter(
                    "merge (default), or replace: what the file's sections leave out goes", Literal["merge", "replace"]
                ),
            },
            headers={"If-Match": "the ETag of an export: the file is taken in only if nothing has changed since"},
            sends={"ETag": _VERSION},
            also={412: None},
        ),
        Route(
            "POST",
            "/api/v1/config/reload",
            "config",
            partial(reload_config, engine),
            "Reload the configuration",
            answer=dict[str, Any],
        ),
    )
