"""Schemas and their agent relations."""

from functools import partial

from bytebrew.contract.entities import NewRelation, NewSchema, Relation, Schema, SchemaPatch
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.store import schemas
from bytebrew.store.sqlite.database import Database


async def list_schemas(db: Database, request: Request[None]) -> list[Schema]:
    """Every schema by name."""
    return await db.scan(schemas.list_all)


async def get_schema(db: Database, request: Request[None]) -> Schema:
    """One schema."""
    return await db.read(schemas.get, request.path["name"])


async def get_schema_agents(db: Database, request: Request[None]) -> list[str]:
    """The names of a schema's agents, the entry agent first."""
    return list((await db.read(schemas.get, request.path["name"])).agents)


async def create_schema(request: Request[NewSchema]) -> Schema:
    """A new schema."""
    return await request.write(schemas.create, request.body)


async def update_schema(request: Request[SchemaPatch]) -> Schema:
    """The schema with the fields that were sent."""
    return await request.write(schemas.update, request.path["name"], request.body)


async def delete_schema(request: Request[None]) -> None:
    """Removes a schema; its sessions stay readable."""
    await request.write(schemas.delete, request.path["name"])


async def list_relations(db: Database, request: Request[None]) -> list[Relation]:
    """A schema's relations."""
    return await db.scan(schemas.relations, request.path["name"])


async def get_relation(db: Database, request: Request[None]) -> Relation:
    """One relation."""
    return await db.read(schemas.get_relation, request.path["name"], request.path["id"])


async def create_relation(request: Request[NewRelation]) -> Relation:
    """A new relation; it may not close a circle."""
    return await request.write(schemas.add_relation, request.path["name"], request.body)


async def replace_relation(request: Request[NewRelation]) -> None:
    """Gives a relation other ends or another config."""
    name, relation_id = request.path["name"], request.path["id"]
    await request.write(schemas.replace_relation, name, relation_id, request.body)


async def delete_relation(request: Request[None]) -> None:
    """Removes a relation."""
    await request.write(schemas.remove_relation, request.path["name"], request.path["id"])


_ALIASES = {"entry_agent_id": "entry_agent", "entry_agent_name": "entry_agent"}
_LIST, _ITEM = "/api/v1/schemas", "/api/v1/schemas/{name}"
_RELATIONS, _RELATION = f"{_ITEM}/agent-relations", f"{_ITEM}/agent-relations/{{id}}"
_READ, _WRITE = "schemas:read", "schemas:write"


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to what they use of an engine."""
    return (
        Route(
            method="GET",
            path=_LIST,
            scope=_READ,
            run=partial(list_schemas, engine.db),
            summary="List schemas",
            answer=list[Schema],
        ),
        Route(
            method="POST",
            path=_LIST,
            scope=_WRITE,
            run=create_schema,
            summary="Create a schema",
            body=NewSchema,
            example={
                "name": "helpdesk",
                "entry_agent": "support",
                "chat_enabled": True,
                "relations": [{"source": "support", "target": "demo"}],
            },
            aliases=_ALIASES,
            answer=Schema,
            status=201,
            idempotent=True,
        ),
        Route(
            method="GET",
            path=_ITEM,
            scope=_READ,
            run=partial(get_schema, engine.db),
            summary="Get a schema",
            answer=Schema,
        ),
        *(
            Route(
                method=method,
                path=_ITEM,
                scope=_WRITE,
                run=update_schema,
                summary="Update a schema",
                body=SchemaPatch,
                example={"description": "For customers", "chat_enabled": True},
                aliases=_ALIASES,
                answer=Schema,
            )
            for method in ("PUT", "PATCH")
        ),
        Route(method="DELETE", path=_ITEM, scope=_WRITE, run=delete_schema, summary="Delete a schema", status=204),
        Route(
            method="GET",
            path=f"{_ITEM}/agents",
            scope=_READ,
            run=partial(get_schema_agents, engine.db),
            summary="List a schema's agents",
            answer=list[str],
        ),
        Route(
            method="GET",
            path=_RELATIONS,
            scope=_READ,
            run=partial(list_relations, engine.db),
            summary="List agent relations",
            answer=list[Relation],
        ),
        Route(
            method="POST",
            path=_RELATIONS,
            scope=_WRITE,
            run=create_relation,
            summary="Create an agent relation",
            body=NewRelation,
            example={"source": "support", "target": "demo"},
            answer=Relation,
            status=201,
            idempotent=True,
        ),
        Route(
            method="GET",
            path=_RELATION,
            scope=_READ,
            run=partial(get_relation, engine.db),
            summary="Get an agent relation",
            answer=Relation,
        ),
        Route(
            method="PUT",
            path=_RELATION,
            scope=_WRITE,
            run=replace_relation,
            summary="Replace an agent relation",
            body=NewRelation,
            example={"source": "support", "target": "demo", "config": {"note": "for small talk"}},
            status=204,
        ),
        Route(
            method="DELETE",
            path=_RELATION,
            scope=_WRITE,
            run=delete_relation,
            summary="Delete an agent relation",
            status=204,
        ),
    )
