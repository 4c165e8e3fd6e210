"""Capabilities of agents, each switched on by itself."""

from functools import partial

from bytebrew.contract.entities import Capability, CapabilityPatch, NewCapability
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.store.configuration import capabilities
from bytebrew.store.configuration.capabilities import CapabilityTypes
from bytebrew.store.database.database import Database


async def list_capabilities(db: Database, request: Request[None]) -> list[Capability]:
    """Every capability of an agent."""
    return await db.scan(capabilities.list_all, request.path["name"])


async def get_capability(db: Database, request: Request[None]) -> Capability:
    """One capability of an agent, by its id or type."""
    return await db.read(capabilities.get, request.path["name"], request.path["id"])


async def create_capability(types: CapabilityTypes, request: Request[NewCapability]) -> Capability:
    """A new capability of an agent; its next message can use it."""
    return await request.write(capabilities.create, types, request.path["name"], request.body)


async def update_capability(types: CapabilityTypes, request: Request[CapabilityPatch]) -> None:
    """Changes the fields of a capability that were sent."""
    path = request.path
    await request.write(capabilities.update, types, path["name"], path["id"], request.body)


async def delete_capability(request: Request[None]) -> None:
    """Takes a capability from an agent; what it has stored stays."""
    await request.write(capabilities.delete, request.path["name"], request.path["id"])


_ALL = "/api/v1/agents/{name}/capabilities"
_ITEM = f"{_ALL}/{{id}}"


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    types = engine.capability_types
    shown = types.shown
    return (
        Route(
            "GET",
            _ALL,
            "agents:read",
            partial(list_capabilities, engine.db),
            "List an agent's capabilities",
            answer=list[shown],  # type: ignore[valid-type]
        ),
        Route(
            "POST",
            _ALL,
            "agents:write",
            partial(create_capability, types),
            "Give an agent a capability",
            body=types.new,
            example={"type": "memory", "config": {"max_entries": 500}},
            answer=shown,
            status=201,
            idempotent=True,
        ),
        Route("GET", _ITEM, "agents:read", partial(get_capability, engine.db), "Get a capability", answer=shown),
        *(
            Route(
                method,
                _ITEM,
                "agents:write",
                partial(update_capability, types),
                "Update a capability",
                body=types.patch,
                example={"config": {"max_entries": 100}},
                status=204,
            )
            for method in ("PUT", "PATCH")
        ),
        Route("DELETE", _ITEM, "agents:write", delete_capability, "Take a capability from an agent", status=204),
    )
