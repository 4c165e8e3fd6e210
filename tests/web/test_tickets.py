"""A ticket opens one event stream for a minute, as the caller that it was made for, and nothing else."""

import asyncio
import logging
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from bytebrew.base.masking import redact
from bytebrew.base.secrets import Secrets
from bytebrew.contract.events import MessageDelta
from bytebrew.engine import Engine
from bytebrew.store import journal
from bytebrew.testing import ADMIN, ScriptedProvider, events_of, names, providing, scripted_schema, served_engine
from bytebrew.web import access
from bytebrew.web.http_state import http_state
from bytebrew.web.query import takes_ticket
from bytebrew.web.routes import every
from bytebrew.web.tickets import SECONDS, Tickets
from tests.tables import check_refusal, token_with

PATH = "/api/v1/auth/tickets"


class World:
    """An engine with a session of a token, and a client without a credential."""

    def __init__(self, engine: Engine, client: httpx.AsyncClient) -> None:
        self.engine, self.client = engine, client
        self.token_id = self.token = self.session = ""

    @property
    def events(self) -> str:
        """The path of the session's events."""
        return f"/api/v1/sessions/{self.session}/events"

    async def mint(self, path: str, token: str = "") -> httpx.Response:
        """The answer to a request for a ticket."""
        headers = {"authorization": f"Bearer {token or self.token}"}
        return await self.client.post(PATH, json={"path": path}, headers=headers)

    async def ticket(self, path: str = "", token: str = "") -> str:
        """A ticket."""
        answer = await self.mint(path or self.events, token)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["ticket"])


@asynccontextmanager
async def world_of(**settings: str) -> AsyncIterator[World]:
    model = ScriptedProvider([MessageDelta(content="Hello")])
    async with served_engine(providing(model), settings=settings) as (engine, client):
        await scripted_schema(engine)
        del client.headers["authorization"]
        world = World(engine, client)
        made = await token_with(engine, "chat", name="page")
        world.token, world.token_id = made.token, made.id
        headers = {"authorization": f"Bearer {world.token}"}
        body = {"message": "Hi", "stream": False}
        answer = await client.post("/api/v1/schemas/test/chat", json=body, headers=headers)
        world.session = answer.json()["session_id"]
        yield world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with world_of() as world:
        yield world


async def opened(world: World, ticket: str, path: str = "", **query: str) -> httpx.Response:
    """The refusal of a request with a ticket; it must not be a stream."""
    async with world.client.stream("GET", path or world.events, params={"ticket": ticket, **query}) as answer:
        assert answer.headers["content-type"] != "text/event-stream", ticket
        await answer.aread()
    return answer


async def test_a_ticket_opens_its_stream_without_a_header(world: World) -> None:
    answer = await world.mint(world.events)
    assert (answer.status_code, answer.json()["expires_in"]) == (200, 60)
    assert answer.headers["cache-control"] == "no-store"
    url = f"{world.events}?ticket={answer.json()['ticket']}"
    for again in (url, f"{url}&after=0"):
        async with world.client.stream("GET", again) as stream:
            assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream")
            assert stream.headers["referrer-policy"] == "no-referrer"
            assert stream.headers["cache-control"] == "no-store"
            events = events_of(stream)
            assert names([await anext(events) for _ in range(3)]) == ["message_delta", "message", "done"]
    headers = {"last-event-id": "1"}  # as EventSource sends it when it connects again
    async with world.client.stream("GET", url, headers=headers) as stream:
        assert (await anext(events_of(stream))).event == "message"


async def test_a_ticket_opens_nothing_else(world: World) -> None:
    ticket = await world.ticket()
    other = world.events.replace(world.session, "x" * 36)
    for path in (other, "/api/v1/events", f"{world.events}/", "/api/v1/tasks/task_1/events"):
        refused = await opened(world, ticket, path)
        assert refused.status_code == (404 if path.endswith("/") else 401), path
    for path in ("/api/v1/sessions", f"/api/v1/sessions/{world.session}", "/api/v1/auth/whoami"):
        refused = await opened(world, ticket, path)
        assert refused.status_code == (400 if "whoami" in path else 401), path
        check_refusal(refused)
    for method, path in (("POST", "/api/v1/schemas/test/chat"), ("DELETE", f"/api/v1/sessions/{world.session}")):
        refused = await world.client.request(method, path, params={"ticket": ticket})
        assert refused.status_code == 401, path
    assert (await world.client.head(world.events, params={"ticket": ticket})).status_code == 401
    bearer = {"authorization": f"Bearer {ticket}"}
    assert (await world.client.get(world.events, headers=bearer)).status_code == 401
    page = await opened(world, ticket, follow="false")
    assert (page.status_code, page.json()["details"][0]["path"]) == (400, "$.ticket")


async def test_a_ticket_beside_a_credential_is_refused(world: World) -> None:
    bearer = {"authorization": f"Bearer {ADMIN}"}
    both = await world.client.get(world.events, params={"ticket": await world.ticket()}, headers=bearer)
    assert (both.status_code, both.json()["details"][0]["path"]) == (400, "$.ticket")


async def test_what_is_no_ticket_is_a_401(world: World) -> None:
    good = await world.ticket()
    forged = [
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good[:40],
        good[4:],
        f"{good}A",
        "bbt_",
        "bbt_AAAA",
        "bbt_é",
    ]
    for text in (*forged, "", "bbt_%00", f"bbt_{'A' * 200}", ADMIN, world.token):
        refused = await opened(world, text)
        assert refused.status_code == 401, text
        assert check_refusal(refused)["error"] == "unauthorized"
        assert "www-authenticate" in refused.headers


async def test_a_ticket_has_one_spelling(world: World) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for size in range(3):  # so that the last letter has 0, 2 and 4 bits to spare
        ticket = http_state(world.engine).tickets.issue(world.events, f"Bearer {world.token}{' ' * size}")
        for letter in letters.replace(ticket[-1], ""):
            assert (await opened(world, ticket[:-1] + letter)).status_code == 401
        assert (await opened(world, f"{ticket[:9]}~{ticket[9:]}")).status_code == 401


async def test_a_ticket_lasts_a_minute() -> None:
    now = 1000.0
    async with world_of() as world:
        state = http_state(world.engine)
        state.tickets = Tickets(world.engine.secrets, lambda: now)
        state.tickets.offer(every(world.engine))
        ticket = await world.ticket()
        now += SECONDS - 0.1
        async with world.client.stream("GET", world.events, params={"ticket": ticket}) as stream:
            assert stream.status_code == 200
        now += 0.1
        assert "expired" in (await opened(world, ticket)).json()["message"]


async def test_a_ticket_of_another_engine_is_none() -> None:
    async with world_of() as world:
        other = Tickets(Secrets(bytes(range(32))))
        assert (await opened(world, other.issue(world.events, f"Bearer {world.token}"))).status_code == 401
        sealed = world.engine.secrets.seal(f'["{world.events}", 9e9, "Bearer {world.token}"]')  # not by the derived key
        assert (await opened(world, f"bbt_{urlsafe_b64encode(sealed).decode().rstrip('=')}")).status_code == 401


async def test_a_ticket_is_for_streams_that_its_caller_may_follow(world: World) -> None:
    tasks = await token_with(world.engine, "tasks", name="tasks")
    assert (await world.mint("/api/v1/tasks/task_1/events", tasks.token)).status_code == 200
    assert (await world.mint(world.events, tasks.token)).status_code == 403
    assert (await world.mint("/api/v1/events")).status_code == 403
    assert (await world.mint("/api/v1/events", ADMIN)).status_code == 200
    for path in ("/api/v1/sessions", "/", "", f"{world.events}?after=3", "https://evil.example/api/v1/events", "/x\0"):
        refused = await world.mint(path)
        assert refused.status_code == 400, path
        assert refused.json()["details"][0]["path"] == "$.path"
    for token in ("bb_" + "0" * 64, "nonsense"):
        assert (await world.mint(world.events, token)).status_code == 401
    assert (await world.client.post(PATH, json={"path": world.events})).status_code == 401


async def test_a_stranger_gets_a_ticket_and_no_session_with_it(world: World) -> None:
    stranger = await token_with(world.engine, "chat", name="stranger")
    ticket = await world.ticket(token=stranger.token)
    assert (await opened(world, ticket)).status_code == 404


async def test_every_stream_of_events_takes_tickets(world: World) -> None:
    streams = {route.path for route in every(world.engine) if takes_ticket(route)}
    assert streams == {"/api/v1/events", "/api/v1/sessions/{id}/events", "/api/v1/tasks/{id}/events"}
    document = (await world.client.get("/api/v1/openapi.json")).json()["paths"]
    for path, methods in document.items():
        assert ({"ticket": []} in methods.get("get", {}).get("security", ())) == (path in streams), path


async def test_a_stream_ends_with_the_credential_of_its_ticket(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(journal, "HEARTBEAT_SECONDS", 0.05)
    ticket = await world.ticket()
    async with world.client.stream("GET", world.events, params={"ticket": ticket}) as stream:
        events = events_of(stream)
        await anext(events)
        revoked = await world.client.delete(
            f"/api/v1/auth/tokens/{world.token_id}", headers={"authorization": f"Bearer {ADMIN}"}
        )
        assert revoked.status_code == 204
        async with asyncio.timeout(10):
            last = [event async for event in events][-1]
        assert (last.event, b"unauthorized" in last.data.encode()) == ("error", True)
    assert (await opened(world, ticket)).status_code == 401
    assert (await world.mint(world.events)).status_code == 401


async def test_a_visitor_follows_a_session_with_the_view_of_the_public(world: World) -> None:
    page = await token_with(world.engine, "public", name="public", schemas=("test",))
    answer = await world.client.post(
        "/api/v1/auth/visitors", headers={"authorization": f"Bearer {page.token}"}, json={}
    )
    token = answer.json()["access_token"]
    body = {"message": "Hi", "stream": False}
    headers = {"authorization": f"Bearer {token}"}
    session = (await world.client.post("/api/v1/schemas/test/chat", json=body, headers=headers)).json()["session_id"]
    path = f"/api/v1/sessions/{session}/events"
    async with world.client.stream("GET", path, params={"ticket": await world.ticket(path, token)}) as stream:
        assert (await anext(events_of(stream))).event == "message_delta"
    assert (await opened(world, await world.ticket(token=token))).status_code == 404


async def test_a_ticket_and_its_credential_stand_in_no_record(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ticket = await world.ticket()
        async with world.client.stream("GET", world.events, params={"ticket": ticket}) as stream:
            await anext(events_of(stream))
        await opened(world, f"{ticket}A")
        await opened(world, ticket, "/api/v1/sessions")
    logged = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert PATH in logged  # the paths of requests are there; httpx is the client of this test
    bearer = {"authorization": f"Bearer {ADMIN}"}
    audit = await world.client.get("/api/v1/audit", headers=bearer)
    [made] = [row for row in audit.json()["data"] if row["action"] == "ticket.create"]
    assert made["resource"] == f"POST {PATH}", made
    for text in (logged, audit.text):
        assert not [secret for secret in (ticket, ticket[8:60], world.token) if secret in text]
    assert redact(f"GET /x?ticket={ticket}&after=3") == "GET /x?ticket=***&after=3"


async def test_a_page_of_an_origin_that_is_listed_may_make_and_use_a_ticket() -> None:
    async with world_of(BYTEBREW_CORS_ORIGINS="https://shop.example") as world:
        origin = {"origin": "https://shop.example"}
        bearer = {"authorization": f"Bearer {world.token}"}
        made = await world.client.post(PATH, json={"path": world.events}, headers=origin | bearer)
        assert made.headers["access-control-allow-origin"] == "https://shop.example"
        query = {"ticket": made.json()["ticket"]}
        async with world.client.stream("GET", world.events, params=query, headers=origin) as stream:
            assert stream.headers["access-control-allow-origin"] == "https://shop.example"
