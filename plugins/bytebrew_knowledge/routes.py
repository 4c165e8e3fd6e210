"""Knowledge over REST: bases, their links, their files and their search."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct

from bytebrew import Connection, Detail, InvalidRequest, Parameter, Request, Route

from . import bases, chunks, files
from .bases import Base, BasePatch, NewBase
from .chunks import Chunk
from .files import File
from .knowledge import KNOWLEDGE
from .search import Hit, Query

N = TypeVar("N", int, float)


class Linked(Struct, frozen=True, kw_only=True):
    """An agent may search a base."""

    status: Literal["linked"] = "linked"


class Started(Struct, frozen=True, kw_only=True):
    """Work that goes on in the background."""

    status: Literal["reindex_started", "indexing_started"]


class Results(Struct, frozen=True, kw_only=True):
    """What a search found, best first; `warning` says why only words were searched."""

    results: list[Hit]
    warning: str | None


class AgentStatus(Struct, frozen=True, kw_only=True):
    """How far the files are that an agent may search."""

    agent_name: str
    total_files: int
    indexed_files: int
    status: bases.Status


async def list_bases(request: Request[None]) -> list[Base]:
    """Every base by name."""
    return await request.engine.db.scan(bases.list_all)


async def get_base(request: Request[None]) -> Base:
    """One base."""
    return await request.engine.db.scan(bases.get, request.path["id"])


async def create_base(request: Request[NewBase]) -> Base:
    """A new base."""
    return await request.write(bases.create, request.body)


async def update_base(request: Request[BasePatch]) -> Base:
    """The base with the fields that were sent."""
    return await request.engine.state[KNOWLEDGE].update(request.path["id"], request.body, request.record)


async def delete_base(request: Request[None]) -> None:
    """Removes a base that no agent is linked to, with its files."""
    await request.engine.state[KNOWLEDGE].delete_base(request.path["id"], request.record)


async def search_base(request: Request[None]) -> Results:
    """The chunks that fit a query best; `file` and `metadata.<name>` narrow it, `threshold` is of likeness."""
    query = request.query
    text = query.get("q", "")[:10_000]
    if not text.strip():
        raise InvalidRequest("Say what to look for in q", details=[Detail("$.q", "is missing")])
    found = await request.engine.state[KNOWLEDGE].search(
        Query(
            text=text,
            bases=(await _base_id(request),),
            limit=_number(query, "limit", 10, 1, 50),
            threshold=_number(query, "threshold", 0.0, 0, 1) if query.get("threshold") else None,
            file=query.get("file", ""),
            metadata={name[9:]: value for name, value in query.items() if name.startswith("metadata.")},
        )
    )
    return Results(results=found.hits, warning=found.fault)


async def link_agent(request: Request[None]) -> Linked:
    """Lets an agent search a base."""
    path = request.path

    def link(conn: Connection) -> Linked:
        bases.link(conn, path["id"], path["name"])
        return Linked()

    return await request.write(link)


async def unlink_agent(request: Request[None]) -> None:
    """Ends that."""
    await request.write(bases.unlink, request.path["id"], request.path["name"])


async def list_files(request: Request[None]) -> list[File]:
    """Every file of a base by name."""
    return await request.engine.db.scan(files.list_all, [await _base_id(request)])


async def get_file(request: Request[None]) -> File:
    """One file, with the progress of its indexing."""
    return await request.engine.db.read(files.get, [await _base_id(request)], request.path["file_id"])


class FileChunks(Struct, frozen=True, kw_only=True):
    """Some parts of a file, in their order."""

    data: list[Chunk]


async def list_chunks(request: Request[None]) -> FileChunks:
    """The parts of a file as they are searched, from the position `first`."""
    first = _number(request.query, "first", 1, 0, 10**9)
    limit = _number(request.query, "limit", 10, 1, 50)
    base_id, file_id = await _base_id(request), request.path["file_id"]
    return FileChunks(data=await request.engine.db.read(chunks.of_file, base_id, file_id, first, limit))


async def upload_file(request: Request[AsyncIterator[bytes]]) -> File:
    """A file, new or in the place of the one of its name; it is indexed in the background."""
    return await request.engine.state[KNOWLEDGE].upload(request, bases.identify, await _base_id(request))


async def delete_file(request: Request[None]) -> None:
    """Removes a file."""
    knowledge, base_id = request.engine.state[KNOWLEDGE], await _base_id(request)
    await knowledge.delete_file([base_id], request.path["file_id"], request.record)


async def reindex_file(request: Request[None]) -> Started:
    """Has a file indexed once more; the old index is searched until the new one is whole."""
    started = Started(status="reindex_started")
    await request.engine.state[KNOWLEDGE].reindex(
        [await _base_id(request)], request.path["file_id"], record=lambda conn, _: request.record(conn, started)
    )
    return started


async def agent_status(request: Request[None]) -> AgentStatus:
    """How far the files are that an agent may search."""
    name = request.path["name"]
    found = await request.engine.db.scan(lambda conn: files.list_all(conn, bases.linked(conn, name)))
    ready = sum(file.status == "ready" for file in found)
    waits = any(file.status == "indexing" for file in found)
    status: bases.Status = "empty" if not found else "indexing" if waits else "ready"
    return AgentStatus(agent_name=name, total_files=len(found), indexed_files=ready, status=status)


async def agent_files(request: Request[None]) -> list[File]:
    """Every file that an agent may search, by name."""
    name = request.path["name"]
    return await request.engine.db.scan(lambda conn: files.list_all(conn, bases.linked(conn, name)))


async def upload_to_agent(request: Request[AsyncIterator[bytes]]) -> File:
    """A file for the one base of an agent, which is made and linked where there is none."""
    name = request.path["name"]
    await request.engine.db.read(bases.only, name)  # refuses before the file is sent
    return await request.engine.state[KNOWLEDGE].upload(request, bases.own, name)


async def delete_of_agent(request: Request[None]) -> None:
    """Removes a file that an agent may search."""
    found = await request.engine.db.read(bases.linked, request.path["name"])
    await request.engine.state[KNOWLEDGE].delete_file(found, request.path["file_id"], request.record)


async def reindex_agent(request: Request[None]) -> Started:
    """Has every file indexed once more that an agent may search."""
    started = Started(status="indexing_started")
    found = await request.engine.db.read(bases.linked, request.path["name"])
    await request.engine.state[KNOWLEDGE].reindex(found, record=lambda conn, _: request.record(conn, started))
    return started


async def _base_id(request: Request[Any]) -> str:
    return await request.engine.db.read(bases.identify, request.path["id"])


def _number(query: Mapping[str, str], name: str, default: N, least: float, most: float) -> N:
    text = query.get(name)
    if not text:
        return default
    try:
        value = type(default)(text)
    except ValueError:
        value = type(default)(most + 1)
    if not least <= value <= most:
        message = f"is a {'whole ' if isinstance(default, int) else ''}number from {least:g} to {most:g}"
        raise InvalidRequest(f"{name} {message}", details=[Detail(f"$.{name}", message)])
    return value


_ALL = "/api/v1/knowledge-bases"
_BASE = f"{_ALL}/{{id}}"
_FILES, _FILE = f"{_BASE}/files", f"{_BASE}/files/{{file_id}}"
_AGENT = "/api/v1/agents/{name}/knowledge"
_ALIASES = {"embedding_model_id": "embedding_model"}


def _route(method: Any, path: str, run: Any, summary: str, **more: Any) -> Route:
    scope = "agents:read" if method == "GET" else "agents:write"
    return Route(method=method, path=path, scope=scope, run=run, summary=summary, **more)


_CREATE: dict[str, Any] = {
    "body": NewBase,
    "example": {"name": "handbook", "description": "How we work"},
    "aliases": _ALIASES,
    "answer": Base,
    "status": 201,
    "idempotent": True,
}
_SEARCH = {
    "q": Parameter(
        "what to look for: a question or its words",
        Annotated[str, Meta(pattern=r"\S", description="more than spaces")],
        required=True,
    ),
    "limit": Parameter("most results, 10 unless told, up to 50", Annotated[int, Meta(ge=1, le=50)] | Literal[""]),
    "threshold": Parameter(
        "least likeness of a result's vector to the question's, from 0 to 1",
        Annotated[float, Meta(ge=0, le=1)] | Literal[""],
    ),
    "file": "only in this file, by name or id",
    "metadata.<name>": "only in files whose metadata has this value",
}
_CHUNKS = {
    "first": Parameter("the position of the first, 1 unless told", Annotated[int, Meta(ge=0, le=10**9)] | Literal[""]),
    "limit": Parameter("most chunks, 10 unless told, up to 50", Annotated[int, Meta(ge=1, le=50)] | Literal[""]),
}
_UPDATE: dict[str, Any] = {
    "body": BasePatch,
    "example": {"description": "How we work, since 2026"},
    "aliases": _ALIASES,
    "answer": Base,
}
_FORM = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "metadata": {"type": "string", "description": "a JSON object of texts"},
    },
    "required": ["file"],
    "additionalProperties": False,
}
_UPLOAD: dict[str, Any] = {
    "stream_body": True,
    "takes": {"multipart/form-data": _FORM},
    "answer": File,
    "status": 201,
}
_STARTED: dict[str, Any] = {"answer": Started, "status": 202}

ROUTES = (
    _route("GET", _ALL, list_bases, "List knowledge bases", answer=list[Base]),
    _route("POST", _ALL, create_base, "Create a knowledge base", action="kb.create", **_CREATE),
    _route("GET", _BASE, get_base, "Get a knowledge base", answer=Base),
    _route("PUT", _BASE, update_base, "Update a knowledge base", action="kb.update", **_UPDATE),
    _route("PATCH", _BASE, update_base, "Update a knowledge base", action="kb.update", **_UPDATE),
    _route("DELETE", _BASE, delete_base, "Delete a knowledge base", action="kb.delete", status=204),
    _route("GET", f"{_BASE}/search", search_base, "Search a knowledge base", query=_SEARCH, answer=Results),
    _route(
        "POST",
        f"{_BASE}/agents/{{name}}",
        link_agent,
        "Link an agent to a knowledge base",
        action="kb_agent.create",
        answer=Linked,
    ),
    _route("DELETE", f"{_BASE}/agents/{{name}}", unlink_agent, "Unlink an agent", action="kb_agent.delete", status=204),
    _route("GET", _FILES, list_files, "List the files of a knowledge base", answer=list[File]),
    _route("POST", _FILES, upload_file, "Upload a file", action="kb_file.create", **_UPLOAD),
    _route("GET", _FILE, get_file, "Get a file of a knowledge base", answer=File),
    _route("GET", f"{_FILE}/chunks", list_chunks, "List the chunks of a file", query=_CHUNKS, answer=FileChunks),
    _route("DELETE", _FILE, delete_file, "Delete a file of a knowledge base", action="kb_file.delete", status=204),
    _route("POST", f"{_FILE}/reindex", reindex_file, "Index a file again", action="kb_file.reindex", **_STARTED),
    _route("GET", f"{_AGENT}/status", agent_status, "Get the state of an agent's knowledge", answer=AgentStatus),
    _route("GET", f"{_AGENT}/files", agent_files, "List the files of an agent", answer=list[File]),
    _route("POST", f"{_AGENT}/files", upload_to_agent, "Upload a file for an agent", **_UPLOAD),
    _route("DELETE", f"{_AGENT}/files/{{file_id}}", delete_of_agent, "Delete a file of an agent", status=204),
    _route("POST", f"{_AGENT}/reindex", reindex_agent, "Index the files of an agent again", **_STARTED),
)
