"""Engines for tests: with a temporary data folder, a client, and a scripted provider."""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
from bytebrew_tokens.store import NewToken, create

from bytebrew.base.formats import new_id
from bytebrew.base.http_client.client import Http
from bytebrew.base.sse_reader import Parser, ServerSentEvent
from bytebrew.contract.entities import NewModel, NewSchema
from bytebrew.contract.hookspecs import hookimpl
from bytebrew.contract.messages import ModelRequest, Stop
from bytebrew.contract.provider import Capabilities, Provider, ProviderEvent
from bytebrew.engine import Engine
from bytebrew.store.configuration import agents, models, schemas
from bytebrew.store.sqlite.migrate import blank
from bytebrew.testing import databases
from bytebrew.testing.in_process import InProcess
from bytebrew.web.server import server

ADMIN = "bb_" + "a" * 64
"""The admin token of every engine of this kit."""

Step = ProviderEvent | BaseException | float | asyncio.Event
"""A step of a scripted answer: an event, seconds to wait, an asyncio event to wait for, or an exception."""


class ScriptedProvider(Provider):
    """Returns the answers of its script, one per call, and records the requests.

    An answer without a final Stop gets one. Calls after the last answer repeat it.
    """

    type = "scripted"
    capabilities = Capabilities(thinking=True)

    def __init__(self, *answers: Sequence[Step]) -> None:
        self.answers = list(answers)
        self.requests: list[ModelRequest] = []
        self.cancelled = 0

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        try:
            for step in answer:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, float | int):
                    await anyio.sleep(step)
                else:
                    yield step
            if not answer or not isinstance(answer[-1], Stop):
                yield Stop()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise


def plugin(name: str = "in_test", /, **hooks: Any) -> tuple[str, object]:
    """A plugin made of hook functions, for `engine`."""
    return name, SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def providing(*providers: Provider) -> tuple[str, object]:
    """A plugin that registers these providers."""

    def register_providers(register: Any) -> None:
        for provider in providers:
            register(provider)

    return plugin("providing", register_providers=register_providers)


@asynccontextmanager
async def engine(
    *plugins: tuple[str, object],
    data: Path | None = None,
    settings: Mapping[str, str] | None = None,
    http: Http | None = None,
) -> AsyncIterator[Engine]:
    """A running engine with the installed plugins and these; the data folder is temporary unless set.

    With BYTEBREW_TEST_STORE=postgresql in this process's environment it has a database of a PostgreSQL server that the
    kit starts, the same for the same data folder.
    """
    if settings and "BYTEBREW_DATA_DIR" in settings:
        data = Path(settings["BYTEBREW_DATA_DIR"])
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "BYTEBREW_DATA_DIR": str(data or folder),
            "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
            "BYTEBREW_DRAIN_SECONDS": "0",
            **({"BYTEBREW_DATABASE_URL": databases.url_of(data or Path(folder))} if databases.CHOSEN else {}),
            **(settings or {}),
        }
        if "tokens" in environment.get("BYTEBREW_DISABLED_PLUGINS", "").split(","):
            del environment["BYTEBREW_BOOTSTRAP_ADMIN_TOKEN"]
        made = Engine(environment, plugins, http=http)
        _make_tables(made)
        try:
            async with made as running:
                yield running
        finally:
            if data is None and _has_database(made):
                databases.drop(made.data_dir)


def _has_database(made: Engine) -> bool:
    """Whether the database of its data folder is of the server that the kit starts."""
    return databases.CHOSEN and made.settings.core.database_url == databases.url_of(made.data_dir)


def _make_tables(made: Engine) -> None:
    """Gives an engine that has not run yet a database with its tables: migrations take half of an engine's start."""
    if _has_database(made):
        databases.make(made.data_dir, repr(made.migrations), lambda: _migrate(made))
    elif not made.settings.core.database_url and not (file := made.folder.database).exists():
        file.touch(0o600)
        file.write_bytes(_blank(tuple((owner, *steps) for owner, steps in made.migrations.items())))


def _migrate(made: Engine) -> None:
    with made.driver.migrated(made.migrations, lambda conn: None):
        pass


@cache
def _blank(owners: tuple[tuple[Any, ...], ...]) -> bytes:
    return blank((owner, steps) for owner, *steps in owners)


def client(running: Engine, token: str = ADMIN) -> httpx.AsyncClient:
    """A client of an engine in this process, without a socket: `async with client(running) as http: ...`.

    Requests run through the whole engine except its server; closing a stream early is a disconnect.
    """
    return httpx.AsyncClient(
        transport=InProcess(running),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=30,
        trust_env=False,
    )


async def token(running: Engine, *scopes: str, schemas: Sequence[str] | None = None) -> str:
    """A new API token with these scopes, for a client that is not an admin; limited to `schemas` if there are any."""
    new = NewToken(name=new_id("test"), scopes=scopes, schemas=tuple(schemas) if schemas is not None else None)
    return (await running.db.write(create, running.scopes, new)).token


@asynccontextmanager
async def served_engine(
    *plugins: tuple[str, object],
    data: Path | None = None,
    settings: Mapping[str, str] | None = None,
    http: Http | None = None,
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """`engine` behind hypercorn on a free port, with a client that has the admin token."""
    async with engine(*plugins, data=data, settings=settings, http=http) as running:
        sock = server.listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        stop = asyncio.Event()
        serving = asyncio.create_task(server.serve(running, sock, stop))
        headers = {"Authorization": f"Bearer {ADMIN}"}
        try:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no CAs: loading certificates takes long
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, verify=trust) as client:
                yield running, client
        finally:
            stop.set()
            await serving


async def scripted_schema(running: Engine, name: str = "test", **agent: Any) -> None:
    """A chat-enabled schema with an agent and a model of one name, on the provider `scripted`; `agent` adds fields."""
    await running.db.write(models.create, NewModel(name=name, type="scripted", model_name="script"), running.secrets)
    await running.db.write(agents.create, running.agent_lists.new(name=name, model=name, **agent))
    await running.db.write(schemas.create, NewSchema(name=name, entry_agent=name, chat_enabled=True))


async def events_of(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    """The events of a streamed response as they arrive."""
    parser = Parser()
    async for chunk in response.aiter_bytes():
        for event in parser.feed(chunk):
            yield event


async def chat(client: httpx.AsyncClient, schema: str, message: str, **body: Any) -> list[ServerSentEvent]:
    """All events of one chat turn."""
    url = f"/api/v1/schemas/{schema}/chat"
    async with client.stream("POST", url, json={"message": message, **body}) as response:
        if response.status_code != 200:
            await response.aread()
            raise AssertionError(f"chat answered {response.status_code}: {response.text}")
        return [event async for event in events_of(response)]


def names(events: Iterable[ServerSentEvent]) -> list[str]:
    """The types of events, with consecutive deltas as one."""
    types: list[str] = []
    for event in events:
        if not (types and types[-1] == event.event and event.event in ("thinking", "message_delta")):
            types.append(event.event)
    return types
