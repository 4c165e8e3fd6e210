"""Memory: facts about a person that agents store and recall across sessions."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from msgspec import Meta
from msgspec.json import encode

from bytebrew import (
    Agent,
    Call,
    CapabilityType,
    Connection,
    Engine,
    Migration,
    PersonalData,
    ProviderError,
    Register,
    Route,
    Step,
    Tool,
    ToolError,
    Toolset,
    hookimpl,
    tool,
)

from . import personal_data, postgres, store
from .routes import ROUTES

log = logging.getLogger(__name__)

EMBED_SECONDS = 10.0
MOST_METADATA = 4000
"""Limit in bytes of a memory's metadata as JSON."""

Content = Annotated[str, Meta(min_length=1, max_length=4000, description="one fact, as a whole sentence")]
Query = Annotated[str, Meta(max_length=4000, description="words to look for; empty: the newest memories")]
Limit = Annotated[int, Meta(ge=1, le=50, description="how many memories at most")]


class Memories(Toolset):
    """The tools of agents with a memory; memories belong to one person in one schema."""

    lists = ("capabilities",)
    reserves = ("memory_store", "memory_recall")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tools = (tool(idempotent=True)(self.memory_store), tool(idempotent=True)(self.memory_recall))

    async def all(self) -> Sequence[Tool]:
        return self._tools

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        return self._tools if agent.capability("memory") else ()

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        return gate in self.reserves and agent.capability("memory") is not None

    def has(self, conn: Connection, name: str) -> bool:
        return any(name == one.name for one in self._tools)

    def missing(self, conn: Connection, agent: Agent) -> Iterable[str]:
        wanted = [one.name for one in self._tools if one.name in agent.tools]
        if wanted and not agent.capability("memory"):
            how = f"POST /api/v1/agents/{agent.name}/capabilities"
            yield f"tools: '{wanted[0]}' is there once the capability memory is on, with {how}"
        for one in agent.capabilities:
            embedder = one.config.get("embedding_model") if one.type == "memory" else None
            if embedder and not conn.execute("select 1 from models where name = ?", (embedder,)).fetchone():
                yield f"capabilities: there is no model '{embedder}' yet, so its memory goes by words alone"

    async def memory_store(self, call: Call, content: Content, metadata: dict[str, Any] | None = None) -> str:
        """Remember a fact about the person you talk to, for this and all later conversations with them."""
        if len(encode(metadata or {})) > MOST_METADATA:
            raise ToolError(f"The metadata takes more than {MOST_METADATA} bytes; put the fact into content")
        db = self._engine.db
        at = await db.read(store.place, call)
        vectors = await self._vectors(at, [content])
        new = await db.write(store.store, at, content, metadata or {}, vectors[0] if vectors else None)
        return "Stored" if new else "Was stored already"

    async def memory_recall(self, call: Call, query: Query = "", limit: Limit = 10) -> Any:
        """Find what was stored of the person you talk to, in this and earlier conversations, the best match first."""
        db = self._engine.db
        at = await db.read(store.place, call)
        vector = None
        if at.model and at.owner_id and store.terms_of(query):
            vector = next(iter(await self._vectors(at, [query])), None)
            rest = await db.read(store.without_vector, at) if vector else []
            if rest and (vectors := await self._vectors(at, [row["content"] for row in rest])):
                pairs = [(one, row["n"]) for one, row in zip(vectors, rest, strict=True)]
                await db.write(store.store_vectors, at.model.model_name, pairs)
        candidates = await db.read(store.candidates, at, query, limit, likeness=vector is not None)
        # in a thread: scoring a thousand vectors takes 70 ms
        best = await asyncio.to_thread(store.ranked, candidates, vector, limit)
        return best or "Nothing that is stored has such words; an empty query finds the newest memories"

    async def _vectors(self, at: store.Place, texts: list[str]) -> list[bytes]:
        """A vector for each text, or an empty list without a working model: the search then uses words only."""
        if at.model is None:
            return []
        try:
            found = await self._engine.models.embed(at.model, texts, seconds=EMBED_SECONDS)
            return [store.packed(vector) for vector in found]
        except ProviderError as error:
            log.warning("memory goes by words alone, for model %s failed: %s", at.model.name, error.message)
        return []


@hookimpl(tryfirst=True)  # the API document names MemoryConfig first
def register_capabilities(register: Register[CapabilityType]) -> None:
    register(CapabilityType(name="memory", config=store.MemoryConfig, check=store.check))


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    register(Migration(1, store.MIGRATION, postgres.TABLES))
    register(Migration(2, personal_data.MIGRATION))


@hookimpl
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    register(Memories(engine))


@hookimpl
async def startup(engine: Engine) -> None:
    while await engine.db.write(store.complete):
        pass


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)


@hookimpl
def register_retention(register: Register[Step]) -> None:
    register(store.forget)


@hookimpl
def register_personal_data(register: Register[PersonalData]) -> None:
    register(personal_data.MEMORIES)
