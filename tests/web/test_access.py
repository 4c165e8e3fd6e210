"""Who gets in: every route of the table refuses the wrong caller, and a session belongs to one."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from bytebrew_auth_local import ended_sessions
from bytebrew_tokens.store import CreatedToken, new_token, revoke
from nacl.signing import SigningKey

from bytebrew.base.jwt import sign
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.route import Face, Route
from bytebrew.engine import Engine
from bytebrew.store import journal
from bytebrew.testing import ADMIN, ScriptedProvider, chat, events_of, providing, scripted_schema, served_engine
from bytebrew.testing import client as in_process
from bytebrew.web import access
from tests.forged import forgeries, fresh
from tests.local import key_of
from tests.tables import BINDABLE, SCOPES, all_but, check_refusal, has_struct, label, path_of, sample, table, token_with

PUBLIC = {
    "POST /api/v1/webhooks/{name}",
    "GET /",
    "GET /docs",
    "GET /sign-in",
    "GET /api/v1/oauth/callback",
    "GET /api/v1/oauth/client.json",
    "GET /docs/{part}",
    "GET /api/v1/openapi.json",
    "GET /api/v1/health",
    "GET /api/v1/auth/whoami",
    "POST /api/v1/auth/tickets",
    "POST /api/v1/auth/local-session",
    "POST /api/v1/auth/local-session/refresh",
    "GET /api/v1/models/registry",
    "GET /api/v1/models/registry/providers",
    "GET /metrics",
    "GET /.well-known/oauth-protected-resource",
    "GET /.well-known/oauth-protected-resource/mcp",
}
"""What anyone may ask for; a route that joins this list must be one that the API reference calls open."""


class Served(NamedTuple):
    """An engine on a socket and in this process, with the key of its JWTs and the claims of an admin."""

    engine: Engine
    client: httpx.AsyncClient
    within: httpx.AsyncClient
    key: SigningKey
    admin: dict[str, str]

    @property
    def guarded(self) -> list[Route]:
        """The routes that need a scope."""
        return [route for route in table(self.engine) if route.scope is not None]

    async def ask(self, route: Route, authorization: str | None) -> httpx.Response:
        """The answer to a request without a body; of a stream, its beginning. Sockets would take twice the time."""
        headers = {} if authorization is None else {"authorization": authorization}
        request = self.within.build_request(route.method, path_of(route), headers=headers)
        response = await self.within.send(request, stream=True)
        if response.status_code >= 400:
            await response.aread()
        await response.aclose()
        return response


@pytest.fixture(scope="module", params=["local", "external"])
async def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """An engine in each of the auth modes."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "external":
        key = SigningKey.generate()
        (folder / "issuer").write_text(bytes(key.verify_key).hex())
        settings = {
            "BYTEBREW_AUTH_MODE": "external",
            "BYTEBREW_JWT_PUBLIC_KEY_PATH": str(folder / "issuer"),
            "BYTEBREW_JWT_AUDIENCE": "*",
        }
        async with (
            served_engine(data=folder / "data", settings=settings) as (engine, client),
            in_process(engine, "") as within,
        ):
            yield Served(engine, client, within, key, {"sub": "ada", "scope": "admin"})
    else:
        async with served_engine(data=folder / "data") as (engine, client), in_process(engine, "") as within:
            key = key_of(folder / "data")
            yield Served(engine, client, within, key, {"sub": "local-admin", "tenant_id": ""})


def challenge(response: httpx.Response, face: Face | None = None) -> str:
    """What a 401 says about the credential (RFC 6750 section 3)."""
    assert response.status_code == 401
    body = check_refusal(response, face=face)
    assert face is not None or body["error"] == "unauthorized"
    return response.headers["www-authenticate"].partition(", resource_metadata=")[0]


def check_words(response: httpx.Response, route: Route, code: str, words: str) -> None:
    """Fails unless a refusal has this code and these words, and no more; a face puts them where its protocol does."""
    body = check_refusal(response, label(route), route.face)
    if route.face is None:
        assert body == {"error": code, "message": words}
    else:
        assert json.dumps(words)[1:-1] in response.text


async def test_what_anyone_may_ask_for_is_known(served: Served) -> None:
    assert {label(route) for route in table(served.engine) if route.scope is None} <= PUBLIC


async def test_every_scope_of_the_table_exists(served: Served) -> None:
    assert {route.scope for route in served.guarded} <= SCOPES.keys()


async def test_every_guarded_route_wants_a_token(served: Served) -> None:
    for route in served.guarded:
        for authorization in (None, "", "Bearer", "Basic YWRtaW46YWRtaW4=", ADMIN, f"Token {ADMIN}"):
            response = await served.ask(route, authorization)
            assert response.status_code == 401, f"{label(route)} with {authorization}"
            assert challenge(response, route.face) == 'Bearer realm="bytebrew"'


async def test_every_guarded_route_refuses_every_forged_jwt(served: Served) -> None:
    forged = forgeries(served.admin, served.key)
    for route in served.guarded:
        for fault, token in forged.items():
            response = await served.ask(route, f"Bearer {token}")
            assert response.status_code == 401, f"{label(route)} with a token that is {fault}"
            assert challenge(response, route.face) == 'Bearer realm="bytebrew", error="invalid_token"'


async def test_every_guarded_route_refuses_an_api_token_that_is_not_live(served: Served) -> None:
    revoked = await token_with(served.engine, "admin", name="revoked")
    await served.engine.db.write(revoke, revoked.id)
    expired = await token_with(served.engine, "admin", name="expired", expires_at="2020-01-01T00:00:00Z")
    dead = {
        "revoked": revoked.token,
        "expired": expired.token,
        "unknown": new_token(),
        "too short": ADMIN[:-1],
        "too long": f"{ADMIN}a",
        "in capitals": f"bb_{'A' * 64}",
        "two": f"{ADMIN}, {ADMIN}",
        "no hex": "bb_" + "g" * 64,
        "the prefix": "bb_",
    }
    for route in served.guarded:
        for fault, token in dead.items():
            response = await served.ask(route, f"Bearer {token}")
            assert response.status_code == 401, f"{label(route)} with a token that is {fault}"
            check_words(response, route, "unauthorized", "Invalid or expired API token")
            assert challenge(response, route.face) == 'Bearer realm="bytebrew", error="invalid_token"'


async def test_two_credentials_in_one_request_are_none(served: Served) -> None:
    headers = [("authorization", f"Bearer {new_token()}"), ("authorization", f"Bearer {ADMIN}")]
    async with httpx.AsyncClient(base_url=served.client.base_url, timeout=30) as bare:
        assert challenge(await bare.get("/api/v1/agents", headers=headers))
        assert challenge(await bare.get("/api/v1/agents", headers=headers[::-1]))


async def test_every_guarded_route_refuses_a_token_without_its_scope(served: Served) -> None:
    for scope in {str(route.scope) for route in served.guarded}:
        without = await token_with(served.engine, *all_but(scope), name=f"all but {scope}")
        for route in served.guarded:
            if route.scope == scope:
                response = await served.ask(route, f"Bearer {without.token}")
                assert response.status_code == 403, label(route)
                check_words(response, route, "forbidden", f"Token does not have '{scope}' scope")


async def test_every_guarded_route_refuses_a_users_jwt_without_its_scope(served: Served) -> None:
    """The local mode knows no user but its admin."""
    status = {"local": 401, "external": 403}[served.engine.settings.core.auth_mode]
    for route in served.guarded:
        claims = fresh({"sub": "ada", "scope": " ".join(all_but(str(route.scope)))})
        response = await served.ask(route, f"Bearer {sign(claims, served.key)}")
        assert response.status_code == status, label(route)
        check_refusal(response, face=route.face)


async def test_every_route_about_more_than_a_schema_refuses_a_token_that_is_bound_to_some(served: Served) -> None:
    """Such a token is not made any more; one that was made before is held to the rule too."""
    scopes = tuple(scope for scope in SCOPES if scope not in ("admin", "public"))
    bound = await token_with(served.engine, *scopes, name="bound")
    await served.engine.db.write(
        lambda conn: conn.execute("update tokens set schemas = '[]' where id = ?", (bound.id,))
    )
    for route in served.guarded:
        if route.scope == "public":  # which no token has beside others
            continue
        response = await served.ask(route, f"Bearer {bound.token}")
        assert (response.status_code == 403) is (route.scope not in BINDABLE), label(route)
        if route.scope not in BINDABLE and route.scope != "admin":
            check_words(
                response, route, "forbidden", f"Token is bound to schemas, and '{route.scope}' is about all of them"
            )


async def test_a_token_with_just_the_scope_may(served: Served) -> None:
    for scope in {str(route.scope) for route in served.guarded}:
        just = await token_with(served.engine, scope, name=f"just {scope}")
        for route in served.guarded:
            if route.scope == scope:
                response = await served.ask(route, f"Bearer {just.token}")
                assert response.status_code not in (401, 403), f"{label(route)} {response.status_code}"


async def test_admin_covers_every_route_as_a_token_and_as_a_jwt(served: Served) -> None:
    generation = await served.engine.db.read(ended_sessions.generation)  # other tests end all local sessions, too
    for credential in (ADMIN, sign(fresh({**served.admin, "gen": generation}), served.key)):
        for route in served.guarded:
            if label(route) != "DELETE /api/v1/auth/local-sessions":  # which takes the JWT away
                response = await served.ask(route, f"Bearer {credential}")
                assert response.status_code not in (401, 403), f"{label(route)} {response.status_code}"


async def test_the_scheme_may_be_written_in_any_case(served: Served) -> None:
    for scheme in ("bearer", "BEARER", "Bearer  "):
        response = await served.client.get("/api/v1/agents", headers={"authorization": f"{scheme} {ADMIN}"})
        assert response.status_code == 200


async def test_a_token_over_http_2_is_judged_alike(served: Served) -> None:
    """A header may be longer there than HTTP/1.1 lets it be."""
    async with httpx.AsyncClient(base_url=served.client.base_url, http1=False, http2=True, timeout=30) as http2:
        good = await http2.get("/api/v1/agents", headers={"authorization": f"Bearer {ADMIN}"})
        assert (good.status_code, good.http_version) == (200, "HTTP/2")
        for token in (sign(fresh({**served.admin, "pad": "x" * 20_000}), served.key), "x" * 40_000):
            assert challenge(await http2.get("/api/v1/agents", headers={"authorization": f"Bearer {token}"}))


# Whose a session is.


class Household(NamedTuple):
    """An engine with a chat and three callers; every answer says Hello and ends when `answer` is set."""

    engine: Engine
    admin: httpx.AsyncClient
    ada: httpx.AsyncClient
    bob: httpx.AsyncClient
    answer: asyncio.Event


@pytest.fixture
async def home() -> AsyncIterator[Household]:
    """Ada and Bob have a token each; answers end at once until `busy` holds them back."""
    answer = asyncio.Event()
    answer.set()
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="Hello"), answer]))) as (engine, admin):
        await scripted_schema(engine)
        ada, bob = [await token_with(engine, "chat", "tasks", "approvals", name=name) for name in ("ada", "bob")]
        async with speaking(admin, ada) as as_ada, speaking(admin, bob) as as_bob:
            yield Household(engine, admin, as_ada, as_bob, answer)
            answer.set()


def speaking(client: httpx.AsyncClient, token: CreatedToken) -> httpx.AsyncClient:
    """A client for the same engine with another token."""
    headers = {"authorization": f"Bearer {token.token}"}
    return httpx.AsyncClient(base_url=client.base_url, headers=headers, timeout=30)


def ending(events: list[ServerSentEvent]) -> dict[str, Any]:
    """The data of the last event, which is `done`."""
    assert events[-1].event == "done"
    data: dict[str, Any] = msgspec.json.decode(events[-1].data)
    return data


async def session_of(client: httpx.AsyncClient) -> str:
    """A new session of the caller."""
    session_id: str = ending(await chat(client, "test", "Hi"))["session_id"]
    return session_id


@asynccontextmanager
async def busy(home: Household, speaker: httpx.AsyncClient, session_id: str) -> AsyncIterator[dict[str, Any]]:
    """The speaker's turn in the session has begun and does not end before the block; then comes its last event."""
    home.answer.clear()
    last: dict[str, Any] = {}
    body = {"message": "Take your time", "session_id": session_id}
    async with speaker.stream("POST", "/api/v1/schemas/test/chat", json=body) as response:
        assert response.status_code == 200
        events = events_of(response)
        assert (await anext(events)).event == "message_delta"
        yield last
        home.answer.set()
        last |= ending([event async for event in events])


def about_a_session(engine: Engine, session_id: str) -> Iterator[tuple[str, str, Any]]:
    """Method, URL and a good body of everything that can be asked about a session."""
    for route in table(engine):
        if re.match(r"/api/v1/sessions/\{\w+\}", route.path):
            path = re.sub(r"\{\w+\}", session_id, route.path, count=1)
            yield route.method, re.sub(r"\{\w+\}", "nothing", path), sample(route.body) if has_struct(route) else None
    yield "GET", f"/api/v1/sessions/{session_id}/events?follow=false", None
    yield "HEAD", f"/api/v1/sessions/{session_id}/events", None
    yield "GET", f"/api/v1/sessions?after={session_id}", None
    for on_busy in ("queue", "interrupt", "reject"):
        for stream in (True, False):
            body = {"message": "Hi", "session_id": session_id, "on_busy": on_busy, "stream": stream}
            yield "POST", "/api/v1/schemas/test/chat", body


async def check_hidden(home: Household, session_id: str) -> None:
    """Whatever Bob asks about Ada's session, there is no such session."""
    for method, url, body in about_a_session(home.engine, session_id):
        response = await home.bob.request(method, url, json=body)
        assert response.status_code == 404, f"{method} {url} {body} -> {response.status_code} {response.text}"
        assert method == "HEAD" or check_refusal(response)["error"] == "not_found"


async def test_a_foreign_session_is_hidden(home: Household) -> None:
    session_id = await session_of(home.ada)
    before = (await home.ada.get(f"/api/v1/sessions/{session_id}")).json()
    await check_hidden(home, session_id)
    assert (await home.ada.get(f"/api/v1/sessions/{session_id}")).json() == before


async def test_a_foreign_session_is_hidden_while_it_is_busy_and_its_turn_goes_on(home: Household) -> None:
    session_id = await session_of(home.ada)
    async with busy(home, home.ada, session_id) as last:
        await check_hidden(home, session_id)
    assert last["status"] == "completed"
    events = (await home.ada.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()["events"]
    assert [event["event"] for event in events].count("done") == 2


async def test_a_new_session_is_its_callers_from_the_first_moment(home: Household) -> None:
    session_id = str(uuid.uuid4())
    async with busy(home, home.ada, session_id):
        await check_hidden(home, session_id)


async def test_a_session_is_all_its_owners(home: Household) -> None:
    session_id = await session_of(home.ada)
    url = f"/api/v1/sessions/{session_id}"
    assert ending(await chat(home.ada, "test", "And again", session_id=session_id))["session_id"] == session_id
    assert (await home.ada.put(url, json={"title": "Mine"})).json()["title"] == "Mine"
    assert (await home.ada.get(url)).json()["message_count"] == 4
    assert len((await home.ada.get(f"{url}/messages")).json()) == 4
    assert (await home.ada.get(f"{url}/events?follow=false")).json()["last"] == 6
    async with busy(home, home.ada, session_id) as last:
        conflict = await home.ada.post(
            "/api/v1/schemas/test/chat", json={"message": "Hi", "session_id": session_id, "on_busy": "reject"}
        )
        assert conflict.status_code == 409
        assert check_refusal(conflict)["error"] == "session_busy"
        assert (await home.ada.post(f"{url}/cancel")).status_code == 204
    assert last["status"] == "cancelled"
    assert (await home.ada.delete(url)).status_code == 204
    assert (await home.ada.get(url)).status_code == 404


async def test_an_admin_may_do_all_with_any_session(home: Household) -> None:
    session_id = await session_of(home.ada)
    url = f"/api/v1/sessions/{session_id}"
    assert ending(await chat(home.admin, "test", "I help", session_id=session_id))["session_id"] == session_id
    assert (await home.admin.patch(url, json={"title": "Seen"})).json()["title"] == "Seen"
    assert (await home.admin.get(f"{url}/events?follow=false")).json()["last"] == 6
    assert (await home.ada.get(url)).json()["message_count"] == 4
    async with busy(home, home.ada, session_id) as last:
        assert (await home.admin.post(f"{url}/cancel")).status_code == 204
    assert last["status"] == "cancelled"
    assert (await home.admin.delete(url)).status_code == 204


async def test_an_owner_is_not_shut_out_while_an_admin_speaks_in_its_session(home: Household) -> None:
    session_id = await session_of(home.ada)
    async with busy(home, home.admin, session_id):
        await check_hidden(home, session_id)
        body = {"message": "Hi", "session_id": session_id}
        rejected = await home.ada.post("/api/v1/schemas/test/chat", json={**body, "on_busy": "reject"})
        assert check_refusal(rejected)["error"] == "session_busy"
        async with home.ada.stream("POST", "/api/v1/schemas/test/chat", json=body) as queued:
            assert queued.status_code == 200


async def test_a_stranger_who_hammers_a_session_does_not_shut_its_owner_out(home: Household) -> None:
    session_id = await session_of(home.ada)
    body = {"message": "Let me in", "session_id": session_id, "stream": False}

    async def hammer() -> set[int]:
        return {(await home.bob.post("/api/v1/schemas/test/chat", json=body)).status_code for _ in range(20)}

    async with asyncio.TaskGroup() as group:
        strangers = [group.create_task(hammer()) for _ in range(4)]
        for _ in range(20):
            assert ending(await chat(home.ada, "test", "Hi", session_id=session_id))
    assert [await stranger for stranger in strangers] == [{404}] * 4


async def test_a_list_has_the_callers_own_sessions_and_an_admins_has_all(home: Household) -> None:
    mine, his = await session_of(home.ada), await session_of(home.bob)

    async def listed(client: httpx.AsyncClient, query: str = "") -> tuple[set[str], int]:
        page = (await client.get(f"/api/v1/sessions{query}")).json()
        assert page["sessions"] == page["data"]
        return {session["id"] for session in page["sessions"]}, page["total"]

    assert await listed(home.ada) == ({mine}, 1)
    assert await listed(home.bob) == ({his}, 1)
    assert await listed(home.admin) == ({mine, his}, 2)
    for query in (
        "?agent=test",
        "?schema=test",
        "?status=completed",
        "?per_page=100",
        "?from=2020-01-01",
        "?user_sub=",
    ):
        assert await listed(home.ada, query) == ({mine}, 1)
    assert await listed(home.ada, "?user_sub=bob") == (set(), 0)
    assert await listed(home.ada, f"?after={mine}") == (set(), 1)
    assert await listed(home.ada, "?page=2") == (set(), 1)


async def test_a_token_bound_to_schemas_chats_with_no_other_by_name_or_id(home: Household) -> None:
    await scripted_schema(home.engine, "other")
    other = (await home.admin.get("/api/v1/schemas/other")).json()["id"]
    bound = await token_with(home.engine, "chat", name="bound", schemas=("test",))
    async with speaking(home.admin, bound) as client:
        assert await session_of(client)
        for key in ("other", other):
            refused = await client.post(f"/api/v1/schemas/{key}/chat", json={"message": "Hi"})
            assert refused.status_code == 403
            words = "Token is not valid for schema 'other'"
            assert check_refusal(refused) == {"error": "forbidden", "message": words}
        assert (await client.get("/api/v1/sessions")).json()["total"] == 1
    nowhere = await token_with(home.engine, "chat", name="nowhere", schemas=())
    async with speaking(home.admin, nowhere) as client:
        assert (await client.post("/api/v1/schemas/test/chat", json={"message": "Hi"})).status_code == 403


async def test_a_session_survives_its_tokens_end_and_is_no_heirs(home: Household) -> None:
    """The owner is the token, not its name."""
    session_id = await session_of(home.ada)
    await home.engine.db.write(revoke, "ada")
    heir = await token_with(home.engine, "chat", name="ada")
    async with speaking(home.admin, heir) as client:
        assert (await client.get(f"/api/v1/sessions/{session_id}")).status_code == 404
    assert (await home.admin.get(f"/api/v1/sessions/{session_id}")).status_code == 200


# What becomes of the streams of a token that ends.


def unauthorized(event: ServerSentEvent) -> bool:
    return event.event == "error" and msgspec.json.decode(event.data)["code"] == "unauthorized"


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_token_that_ends_takes_its_streams_with_it_and_no_turn(
    home: Household, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(access, "STALE_SECONDS", 0)
    session_id = await session_of(home.ada)
    home.answer.clear()
    body = {"message": "Hi", "session_id": session_id}
    async with (
        home.ada.stream("GET", f"/api/v1/sessions/{session_id}/events?after=3") as following,
        home.ada.stream("POST", "/api/v1/schemas/test/chat", json=body) as chatting,
    ):
        streams = [events_of(following), events_of(chatting)]
        assert [(await anext(events)).event for events in streams] == ["message_delta"] * 2
        if end == "revoked":
            assert (await home.admin.delete("/api/v1/auth/tokens/ada")).status_code == 204
        else:
            past = "update tokens set expires_at = '2020-01-01T00:00:00Z' where name = 'ada'"
            await home.engine.db.write(lambda conn: conn.execute(past))
        home.answer.set()
        for events in streams:
            [last] = [event async for event in events]
            assert unauthorized(last)
    seen = (await home.admin.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()["events"]
    assert [event["event"] for event in seen].count("done") == 2


async def test_a_silent_stream_ends_with_its_token_too(home: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(journal, "HEARTBEAT_SECONDS", 0.05)
    session_id = await session_of(home.ada)
    async with (
        home.ada.stream("GET", f"/api/v1/sessions/{session_id}/events?after=3") as adas,
        home.admin.stream("GET", f"/api/v1/sessions/{session_id}/events?after=3") as admins,
    ):
        await home.engine.db.write(revoke, "ada")
        async with asyncio.timeout(10):
            [last] = [event async for event in events_of(adas)]
        assert unauthorized(last)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(events_of(admins))
