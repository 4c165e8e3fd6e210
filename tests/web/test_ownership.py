"""A session is its owner's and an admin's: to anyone else there is no such session, whatever they ask."""

import re
import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest
from nacl.signing import SigningKey

from bytebrew.base.jwt import sign
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.route import Route
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, events_of, providing, scripted_schema, served_engine
from bytebrew.web.query import parameters
from tests.forged import fresh
from tests.tables import check_refusal, has_struct, label, sample, table, token_with

ONE = "/api/v1/sessions/{id}"
MAY = {
    f"GET {ONE}": 200,
    f"GET {ONE}/messages": 200,
    f"GET {ONE}/events": 200,
    f"GET {ONE}/turns": 200,
    f"GET {ONE}/turns/{{turn_id}}": 404,
    f"GET {ONE}/turns/{{turn_id}}/spans": 404,
    f"GET {ONE}/turns/{{turn_id}}/spans/{{span_id}}": 404,
    f"GET {ONE}/queue": 200,
    f"DELETE {ONE}/queue/{{turn_id}}": 404,
    f"PUT {ONE}": 200,
    f"PATCH {ONE}": 200,
    f"POST {ONE}/fork": 201,
    f"POST {ONE}/edit": 404,
    f"GET {ONE}/forks": 200,
    f"POST {ONE}/cancel": 204,
    f"POST {ONE}/respond": 404,
    "POST /api/v1/schemas/{name}/chat": 200,
    f"DELETE {ONE}": 204,
}
"""The routes that take a session's id, and what they answer to its owner; the one that ends it stands last."""
SCOPES = ("chat", "tasks", "approvals")
MISSING = "x" * 36
"""An id that no session has; a fresh UUID would begin a session."""


class Town(NamedTuple):
    """An engine, an admin, and two subjects of each kind: users with a JWT, and API tokens."""

    engine: Engine
    admin: httpx.AsyncClient
    people: dict[str, httpx.AsyncClient]


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """Users and tokens of the same names, who share nothing."""
    issuer, key = tmp_path_factory.mktemp("keys") / "issuer", SigningKey.generate()
    issuer.write_text(bytes(key.verify_key).hex())
    settings = {
        "BYTEBREW_AUTH_MODE": "external",
        "BYTEBREW_JWT_PUBLIC_KEY_PATH": str(issuer),
        "BYTEBREW_JWT_AUDIENCE": "*",
    }
    provider = providing(ScriptedProvider([MessageDelta(content="Hello")]))
    async with served_engine(provider, settings=settings) as (engine, admin):
        await scripted_schema(engine)
        people = {}
        for name in ("ada", "bob"):
            user = sign(fresh({"sub": name, "scope": " ".join(SCOPES)}), key)
            people[f"user {name}"] = speaking(admin, user)
            people[f"token {name}"] = speaking(admin, (await token_with(engine, *SCOPES, name=name)).token)
        yield Town(engine, admin, people)
        for client in people.values():
            await client.aclose()


def speaking(client: httpx.AsyncClient, credential: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=client.base_url, headers={"authorization": f"Bearer {credential}"}, timeout=30)


def about_a_session(engine: Engine) -> list[Route]:
    """The engine's own routes that take a session's id, in the path or in the body, in the order of `MAY`."""
    known, own = list(MAY), [route for route in table(engine) if route.face is None]
    found = [route for route in own if "/sessions/{" in route.path or "session_id" in fields(route)]
    return sorted(found, key=lambda route: known.index(label(route)) if label(route) in known else -1)


def fields(route: Route) -> tuple[str, ...]:
    return route.body.__struct_fields__ if has_struct(route) else ()


def asking(client: httpx.AsyncClient, route: Route, session_id: str, query: str = "") -> httpx.Request:
    """A good request to the route about a session."""
    path = re.sub(r"(?<=/sessions/)\{\w+\}", session_id, route.path)
    path = path.replace("{name}", "test").replace("{turn_id}", "turn_none").replace("{span_id}", "w1")
    assert "{" not in path, "say what to put there"
    named: dict[str, Any] = {"session_id": session_id, "call_id": "none", "answers": ["approve"]}
    named = {name: value for name, value in named.items() if name in fields(route)}
    body = {**sample(route.body), **named} if has_struct(route) else None
    return client.build_request(route.method, f"{path}{query}", json=body)


async def session_of(client: httpx.AsyncClient) -> str:
    return said(await chat(client, "test", "Hi"))


def said(events: list[ServerSentEvent]) -> str:
    assert events[-1].event == "done"
    session_id: str = httpx.Response(200, content=events[-1].data).json()["session_id"]
    return session_id


def seen(response: httpx.Response, session_id: str) -> tuple[int, dict[str, str], str]:
    """All of an answer that does not differ between any two requests."""
    headers = {name: value for name, value in response.headers.items() if name not in ("date", "x-request-id")}
    return response.status_code, headers, response.text.replace(session_id, "{id}")


async def whole(client: httpx.AsyncClient, session_id: str) -> list[Any]:
    """All that can be read of a session."""
    urls = ("", "/messages", "/events?follow=false")
    return [(await client.get(f"/api/v1/sessions/{session_id}{url}")).json() for url in urls]


async def test_every_route_about_a_session_is_known(town: Town) -> None:
    assert [label(route) for route in about_a_session(town.engine)] == list(MAY)


@pytest.mark.parametrize(
    ("owner", "stranger"),
    [
        ("token ada", "token bob"),
        ("user ada", "user bob"),
        ("user ada", "token ada"),
        ("token ada", "user ada"),
        ("admin", "user bob"),
        ("admin", "token bob"),
    ],
)
async def test_not_yours_is_answered_as_not_there(town: Town, owner: str, stranger: str) -> None:
    people = {**town.people, "admin": town.admin}
    session_id = await session_of(people[owner])
    before = await whole(people[owner], session_id)
    for route in about_a_session(town.engine):
        for query in ("", "?follow=false", "?after=0", "?after=-1", "?user_sub=ada"):
            if query and query[1:].partition("=")[0] not in parameters(route):  # it is refused before a look
                continue
            there = await people[stranger].send(asking(people[stranger], route, session_id, query))
            nowhere = await people[stranger].send(asking(people[stranger], route, MISSING, query))
            assert there.status_code == 404 or (there.status_code == 400 and query == "?after=-1")
            if "session_id" in fields(route):  # what is no UUID is told what would begin a session
                assert check_refusal(there)["error"] == check_refusal(nowhere)["error"] == "not_found"
            else:
                assert seen(there, session_id) == seen(nowhere, MISSING), f"{label(route)}{query}"
    assert await whole(people[owner], session_id) == before


async def test_a_bad_request_about_a_session_tells_a_stranger_nothing(town: Town) -> None:
    ada, bob = town.people["user ada"], town.people["user bob"]
    session_id = await session_of(ada)
    for route in about_a_session(town.engine):
        for body in (b"", b"{", b"[]", b'{"no_such_field": 1}'):
            answers = []
            for one in (session_id, MISSING):
                request = asking(bob, route, one)
                headers = {**request.headers, "content-type": "application/json", "content-length": str(len(body))}
                answers.append(seen(await bob.request(route.method, request.url, content=body, headers=headers), one))
            assert answers[0] == answers[1], f"{label(route)} {body!r}"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_another_method_tells_a_stranger_nothing(town: Town, method: str) -> None:
    ada, bob = town.people["user ada"], town.people["user bob"]
    session_id = await session_of(ada)
    for path in {route.path for route in about_a_session(town.engine) if "/sessions/{" in route.path}:
        there, nowhere = [await bob.request(method, path.replace("{id}", one)) for one in (session_id, MISSING)]
        assert there.status_code in (404, 405)
        assert seen(there, session_id) == seen(nowhere, MISSING)


@pytest.mark.parametrize("asker", ["token ada", "user ada", "admin"])
async def test_an_owner_and_an_admin_may_ask_everything(town: Town, asker: str) -> None:
    client = town.admin if asker == "admin" else town.people[asker]
    session_id = await session_of(town.people["user ada"] if asker == "admin" else client)
    for route in about_a_session(town.engine):
        response = await client.send(asking(client, route, session_id), stream=True)
        assert response.status_code == MAY[label(route)], f"{label(route)} {response.status_code}"
        if route.method == "POST" and response.status_code == 200:
            assert said([event async for event in events_of(response)]) == session_id
        await response.aclose()
    assert (await client.get(f"/api/v1/sessions/{session_id}")).status_code == 404


@pytest.mark.parametrize("name", ["token ada", "user ada", "token bob", "user bob"])
async def test_a_list_has_the_callers_own_and_an_admins_has_all(town: Town, name: str) -> None:
    mine = {await session_of(town.people[name]), await session_of(town.people[name])}
    others = {await session_of(client) for other, client in town.people.items() if other != name}
    own = await listed(town.people[name])
    assert mine <= own
    assert not own & others
    assert mine | others <= await listed(town.admin)


async def listed(client: httpx.AsyncClient) -> set[str]:
    page = (await client.get("/api/v1/sessions?per_page=100")).json()
    assert page["total"] == len(page["sessions"]) <= 100
    return {session["id"] for session in page["sessions"]}


async def test_a_page_behind_a_foreign_session_is_as_one_behind_none(town: Town) -> None:
    session_id = await session_of(town.people["user ada"])
    bob = town.people["user bob"]
    there, nowhere = [await bob.get(f"/api/v1/sessions?after={one}") for one in (session_id, MISSING)]
    assert there.status_code == 404
    assert seen(there, session_id) == seen(nowhere, MISSING)
    assert (await town.admin.get(f"/api/v1/sessions?after={session_id}")).status_code == 200


async def test_a_fresh_uuid_begins_a_session_and_a_foreign_one_does_not(town: Town) -> None:
    ada, bob = town.people["user ada"], town.people["user bob"]
    session_id = str(uuid.uuid4())
    assert said(await chat(ada, "test", "Hi", session_id=session_id)) == session_id
    body = {"message": "Hi", "session_id": session_id, "stream": False}
    for spelling in (session_id, session_id.upper(), f" {session_id}", session_id.replace("-", "")):
        refused = await bob.post("/api/v1/schemas/test/chat", json={**body, "session_id": spelling})
        assert refused.status_code == 404, spelling
    assert (await ada.get(f"/api/v1/sessions/{session_id}")).json()["message_count"] == 2


async def test_only_tokens_and_admins_speak_for_another_user(town: Town) -> None:
    for person, other in (("user ada", "bob"), ("user bob", "user:bob")):
        body = {"message": "Hi", "user_sub": other}
        answer = await town.people[person].post("/api/v1/schemas/test/chat", json=body)
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    for client, other in ((town.people["user ada"], "ada"), (town.people["token ada"], "bob"), (town.admin, "bob")):
        events = await chat(client, "test", "Hi", user_sub=other)
        session = (await client.get(f"/api/v1/sessions/{said(events)}")).json()
        assert session["user_sub"] == other
