"""Schemas and their agent relations."""

from functools import partial

from bytebrew.contract.entities import NewRelation, NewSchema, Relation, Schema, SchemaPatch
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.store.configuration import schemas
from bytebrew.store.database.database import Database


async def list_schemas(db: Database, request: Request[None]) -> list[Schema]:
    """Every schema by name."""
    return await db.browse(schemas.list_all)


async def get_schema(db: Database, request: Request[None]) -> Schema:
    """One schema."""
    return await db.peek(schemas.get, request.path["name"])


async def get_schema_agents(db: Database, request: Request[None]) -> list[str]:
    """The names of a schema's agents, the entry agent first."""
    return list((await db.peek(schemas.get, request.path["name"])).agents)


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
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route("GET", _LIST, _READ, partial(list_schemas, engine.db), "List schemas", answer=list[Schema]),
        Route(
            "POST",
            _LIST,
            _WRITE,
            create_schema,
            "Create a schema",
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
        Route("GET", _ITEM, _READ, partial(get_schema, engine.db), "Get a schema", answer=Schema),
        *(
            Route(
                method,
                _ITEM,
                _WRITE,
                update_schema,
                "Update a schema",
                body=SchemaPatch,
                example={"description": "For customers", "chat_enabled": True},
                aliases=_ALIASES,
                answer=Schema,
            )
            for method in ("PUT", "PATCH")
        ),
        Route("DELETE", _ITEM, _WRITE, delete_schema, "Delete a schema", status=204),
        Route(
            "GET",
            f"{_ITEM}/agents",
            _READ,
            partial(get_schema_agents, engine.db),
            "List a schema's agents",
            answer=list[str],
        ),
        Route(
            "GET", _RELATIONS, _READ, partial(list_relations, engine.db), "List agent relations", answer=list[Relation]
        ),
        Route(
            "POST",
            _RELATIONS,
            _WRITE,
            create_relation,
            "Create an agent relation",
            body=NewRelation,
            example={"source": "support", "target": "demo"},
            answer=Relation,
            status=201,
            idempotent=True,
        ),
        Route("GET", _RELATION, _READ, partial(get_relation, engine.db), "Get an agent relation", answer=Relation),
        Route(
            "PUT",
            _RELATION,
            _WRITE,
            replace_relation,
            "Replace an agent relation",
            body=NewRelation,
            example={"source": "support", "target": "demo", "config": {"note": "for small talk"}},
            status=204,
        ),
        Route("DELETE", _RELATION, _WRITE, delete_relation, "Delete an agent relation", status=204),
    )
