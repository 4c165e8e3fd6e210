"""MCP servers with OAuth: each user has own credentials, which outlive restarts, and the engine may have its own."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.testing import chat, token
from tests.oauth_double import Authority
from tests.plugins.test_mcp import PATH, World, world
from tests.plugins.test_mcp_faults import until
from tests.stored import everything
from tests.tables import check_refusal

CONNECTIONS = "/api/v1/connections"
OAUTH = {"auth_type": "oauth2"}
OWN = {**OAUTH, "auth_grant": "client_credentials", "auth_client_id": "engine", "auth_key": "hunter22-secret"}


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@asynccontextmanager
async def user(w: World, *scopes: str) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with a token of their own."""
    headers = {"Authorization": f"Bearer {await token(w.engine, *(scopes or ('chat',)))}"}
    async with httpx.AsyncClient(base_url=w.client.base_url, headers=headers, timeout=30) as http:
        yield http


async def begin(http: httpx.AsyncClient, name: str = "double") -> str:
    """The address that a user opens."""
    begun = await http.post(f"{CONNECTIONS}/{name}")
    assert begun.status_code == 200, begun.text
    return str(begun.json()["authorize_url"])


async def connect(
    http: httpx.AsyncClient, web: Authority, user: str, *, name: str = "double", **answer: str
) -> httpx.Response:
    """Lets a user authorize the engine, in the browser that has begun."""
    return await http.get(web.authorize(await begin(http, name), user, **answer), headers=BROWSER)


async def own(http: httpx.AsyncClient, name: str = "double") -> dict[str, Any]:
    """The caller's connection."""
    return dict(next(one for one in (await http.get(CONNECTIONS)).json() if one["server"] == name))


async def ask(w: World, http: httpx.AsyncClient, tool: str, **input: Any) -> dict[str, Any]:
    """What comes of one call of a tool in a chat of this caller, with the codes of the notices."""
    w.model.answers = [[ToolCall(tool, input)], [MessageDelta(content="Done.")]]
    w.model.requests.clear()
    events = await chat(http, "test", "Go on")
    assert events[-1].event == "done", events
    [result] = [json.loads(event.data) for event in events if event.event == "tool_result"]
    return dict(result) | {"notices": [json.loads(event.data)["code"] for event in events if event.event == "notice"]}


@asynccontextmanager
async def connected(web: Authority, **body: Any) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    """An engine with a user who has connected."""
    async with world() as w:
        await w.add(url=web.url, **OAUTH, **body)
        async with user(w) as ann:
            answer = await connect(ann, web, "Ann")
            assert answer.status_code == 200, answer.text
            yield w, ann


def grants(web: Authority, kind: str) -> list[dict[str, Any]]:
    """The forms of one grant that the token endpoint was sent."""
    return [form for path, form, _ in web.forms if path == "/token" and form["grant_type"] == kind]


def scopes_in(url: str) -> list[str]:
    return parse_qs(urlsplit(url).query).get("scope", [""])[0].split()


async def test_two_users_call_with_own_credentials_in_sessions_of_their_own() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        async with user(w) as ann, user(w) as bob:
            assert (await own(ann))["state"] == "needs_authorization"
            assert (await connect(ann, web, "Ann")).status_code == 200
            refused = await ask(w, bob, "echo", who={"name": "me"})
            assert refused["has_error"]
            assert "POST /api/v1/connections/double" in refused["output"]
            assert refused["notices"] == ["authorization_required"]
            assert (await connect(bob, web, "Bob")).status_code == 200
            for http in (ann, bob, ann):
                assert not (await ask(w, http, "echo", who={"name": "me"}))["has_error"]
            assert web.users() == ["Ann", "Bob", "Ann"]
            assert sorted(web.owners.values()) == ["Ann", "Bob"]
            assert [(await own(one))["state"] for one in (ann, bob)] == ["connected", "connected"]
            assert len(web.clients) == 1, "the engine registers itself once"


async def test_before_anybody_has_connected_a_turn_says_so_and_goes_on() -> None:
    async with Authority() as web, world() as w:
        server = await w.add(url=web.url, **OAUTH)
        assert server["status"]["status"] == "disconnected"
        assert "POST /api/v1/connections/double" in server["status"]["status_message"]
        w.model.answers = [[MessageDelta(content="Done.")]]
        events = await chat(w.client, "test", "Hi")
        notices = [json.loads(event.data) for event in events if event.event == "notice"]
        assert [notice["code"] for notice in notices] == ["tools_missing", "authorization_required"]
        assert all("POST /api/v1/connections/double" in notice["message"] for notice in notices)
        assert notices[1]["names"] == ["double"]
        assert events[-1].event == "done"
        assert web.server.seen == [], "nothing is called without a user"


async def test_credentials_and_tools_outlive_a_restart(tmp_path: Path) -> None:
    async with Authority() as web:
        async with world(data=tmp_path) as w:
            await w.add(url=web.url, **OAUTH)
            await connect(w.client, web, "Ann")
        async with world(data=tmp_path, again=True) as w:
            web.server.seen.clear()
            assert (await own(w.client))["state"] == "connected"
            assert "echo" in await w.offered()
            assert web.server.seen == [], "nothing is opened before it is needed"
            assert not (await ask(w, w.client, "echo", who={"name": "me"}))["has_error"]
            assert (web.users(), len(web.codes), len(web.refresh)) == (["Ann"], 0, 1)


async def test_a_connection_that_is_ended_while_its_code_is_exchanged_stays_ended() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        async with user(w) as ann:
            for ends in (True, False):
                address, exchanges = web.authorize(await begin(ann), "Ann"), len(grants(web, "authorization_code"))
                web.tokens_may_go.clear()
                finishing = asyncio.create_task(ann.get(address))
                with anyio.fail_after(20):
                    while len(grants(web, "authorization_code")) == exchanges:
                        await anyio.sleep(0.01)
                if ends:
                    assert (await ann.delete(f"{CONNECTIONS}/double")).status_code == 204
                else:
                    await begin(ann)
                web.tokens_may_go.set()
                assert (await finishing).status_code == 400
                assert (await own(ann))["state"] == "needs_authorization"
                assert (web.access, web.refresh) == ({}, {}), "the tokens that nobody has are revoked"


async def test_an_access_token_that_ends_is_refreshed_once_for_all_calls() -> None:
    async with Authority({"answer": {"expires_in": 5}}) as web, connected(web) as (w, _):
        web.oauth.clear()
        web.tokens_may_go.clear()
        before, done = len(grants(web, "refresh_token")), 0

        async def call() -> None:
            nonlocal done
            assert await w.call_as(subject, "structured")
            done += 1

        subject = await subject_of(w)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call)
            with anyio.fail_after(10):
                while len(grants(web, "refresh_token")) == before:
                    await anyio.sleep(0.01)
            web.tokens_may_go.set()
        assert (done, len(grants(web, "refresh_token")) - before) == (5, 1)


async def subject_of(w: World) -> str:
    """The subject of the only user."""

    def read(conn: Any) -> str:
        return str(conn.execute("select subject from mcp_connections").fetchone()["subject"])

    return await w.engine.db.read(read)


async def test_a_token_that_is_rejected_is_replaced_and_the_call_made_once_more() -> None:
    async with Authority() as web, connected(web) as (w, ann):
        web.access.clear()
        assert not (await ask(w, ann, "structured"))["has_error"]
        assert len(grants(web, "refresh_token")) == 1
        assert len(web.refresh) == 1, "a rotated token is kept"


async def test_an_authorization_that_has_ended_is_asked_for_again() -> None:
    async with Authority() as web, connected(web) as (w, ann):
        web.access.clear()
        web.refresh.clear()
        refused = await ask(w, ann, "structured")
        assert (refused["has_error"], refused["notices"]) == (True, ["authorization_required"])
        assert (await own(ann))["state"] == "expired"
        tried = len(web.forms)
        assert (await ask(w, ann, "structured"))["notices"] == ["authorization_required"]
        assert len(web.forms) == tried, "nothing is tried again without the user"
        await connect(ann, web, "Ann")
        assert not (await ask(w, ann, "structured"))["has_error"]


async def test_while_the_authorization_server_is_away_no_credentials_are_lost() -> None:
    async with Authority() as web, connected(web) as (w, ann):
        web.access.clear()
        web.oauth["token_answer"] = (503, {"error": "temporarily_unavailable"})
        failed = await ask(w, ann, "structured")
        assert (failed["has_error"], failed["notices"]) == (True, [])
        assert (await own(ann))["state"] == "connected"
        del web.oauth["token_answer"]
        assert not (await ask(w, ann, "structured"))["has_error"]


async def test_a_turn_that_is_cancelled_during_a_refresh_loses_no_token() -> None:
    async with Authority() as web, connected(web) as (w, ann):
        web.access.clear()
        web.tokens_may_go.clear()
        subject = await subject_of(w)
        with anyio.move_on_after(0.5):
            await w.call_as(subject, "structured")
        assert len(grants(web, "refresh_token")) == 1
        web.tokens_may_go.set()
        assert not (await ask(w, ann, "structured"))["has_error"]
        assert len(grants(web, "refresh_token")) == 1


async def test_a_tool_that_needs_more_scopes_is_authorized_again_for_all_of_them() -> None:
    oauth = {"resource": {"scopes_supported": ["read"]}, "scopes_of_tools": {"fail": "write"}}
    async with Authority(oauth) as web, connected(web) as (w, ann):
        assert (await own(ann))["scopes"] == ["read"]
        refused = await ask(w, ann, "fail")
        assert refused["notices"] == ["authorization_required"]
        assert "needs more access: write" in refused["output"]
        mine = await own(ann)
        assert (mine["state"], mine["wanted_scopes"]) == ("needs_authorization", ["write"])
        assert not (await ask(w, ann, "structured"))["has_error"], "the access of before is kept"
        url = await begin(ann)
        assert scopes_in(url) == ["read", "write"]
        await ann.get(web.authorize(url, "Ann"))
        assert (await ask(w, ann, "fail"))["output"] == "the disk is full"
        assert (await own(ann))["state"] == "connected"


async def test_a_server_that_forbids_what_it_has_granted_is_not_asked_again() -> None:
    oauth = {"scopes_of_tools": {"fail": "write"}, "answer": {"scope": "write"}}
    async with Authority(oauth) as web, connected(web) as (w, ann):
        web.access = {name: grant | {"scope": ""} for name, grant in web.access.items()}
        refused = await ask(w, ann, "fail")
        assert (refused["has_error"], refused["notices"]) == (True, [])
        assert (await own(ann))["state"] == "connected"


async def test_ending_a_connection_revokes_its_tokens_and_no_others() -> None:
    async with Authority() as web, connected(web) as (w, ann), user(w) as bob:
        await connect(bob, web, "Bob")
        assert (await ann.delete(f"{CONNECTIONS}/double")).status_code == 204
        assert {one["user"] for one in (*web.access.values(), *web.refresh.values())} == {"Bob"}
        assert [form["token_type_hint"] for path, form, _ in web.forms if path == "/revoke"] == [
            "refresh_token",
            "access_token",
        ]
        assert [(await own(one))["state"] for one in (ann, bob)] == ["needs_authorization", "connected"]
        assert (await ask(w, ann, "structured"))["notices"] == ["authorization_required"]
        assert not (await ask(w, bob, "structured"))["has_error"]
        assert (await ann.delete(f"{CONNECTIONS}/double")).status_code == 204


async def test_the_engine_has_an_account_of_its_own_by_client_credentials(tmp_path: Path) -> None:
    oauth = {"clients": {"engine": {"client_secret": "hunter22-secret"}}, "scopes_of_tools": {"fail": "write"}}
    async with Authority(oauth) as web:
        async with world(data=tmp_path) as w:
            server = await w.add(url=web.url, **OWN, auth_issuer=web.origin, auth_scopes=["read"])
            assert server["status"]["status"] == "connected", server
            assert (await w.client.get(CONNECTIONS)).json() == []
            assert (await w.client.post(f"{CONNECTIONS}/double")).status_code == 404
            assert not (await ask(w, w.client, "structured"))["has_error"]
            web.access.clear()
            assert not (await ask(w, w.client, "structured"))["has_error"]
            assert (await ask(w, w.client, "fail"))["output"] == "the disk is full"
            scopes = [form["scope"] for form in grants(web, "client_credentials")]
            assert scopes == ["read", "read", "read write"]
        issued = len(grants(web, "client_credentials"))
        async with world(data=tmp_path, again=True) as w:
            await until(lambda: is_connected(w))
            assert len(grants(web, "client_credentials")) == issued


async def is_connected(w: World) -> bool:
    return bool((await w.get())["status"]["status"] == "connected")


async def test_a_secret_that_is_wrong_is_said_in_words() -> None:
    async with Authority({"clients": {"engine": {"client_secret": "other"}}}) as web, world() as w:
        await w.add(url=web.url, **OWN, auth_issuer=web.origin)
        words = "has no access token: The authorization server refuses the token: invalid_client"

        async def told() -> bool:
            return bool((await w.get())["status"]["status_message"] == words)

        await until(told)


async def test_no_secret_is_told_or_stored_in_the_clear(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    leak = {"more_tools": [{"name": "leak", "inputSchema": {}}]}
    async with Authority({"secrets": "client_secret_post"}, **leak) as web, world(data=tmp_path) as w:
        await w.add(url=web.url, **OAUTH)
        texts = [(await connect(w.client, web, "Ann")).text]
        refused = await ask(w, w.client, "leak")
        assert refused["output"].endswith("no right to Bearer ***")
        web.access.clear()
        await ask(w, w.client, "echo", who={"name": "me"})
        for path in (CONNECTIONS, PATH, "/api/v1/audit", "/api/v1/sessions", "/api/v1/config/export"):
            texts.append((await w.client.get(path)).text)
        secrets = [*web.access, *web.refresh, *(one["client_secret"] for one in web.clients.values())]
        secrets += [form[name] for _, form, _ in web.forms for name in ("code", "code_verifier") if name in form]
        assert len(secrets) > 4
        logged = [one.getMessage() for one in caplog.records if one.name.partition(".")[0] not in ("httpx", "httpcore")]
        stored = everything(tmp_path)
        for secret in secrets:
            assert all(secret not in line for line in logged)
            assert secret.encode() not in stored
            assert all(secret not in text for text in texts)


async def test_a_session_that_the_server_forgets_is_begun_again_for_the_same_call() -> None:
    async with Authority() as web, connected(web) as (w, ann):
        web.sessions.clear()
        assert not (await ask(w, ann, "structured"))["has_error"]
        subject = await subject_of(w)
        web.sessions.clear()
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(w.call_as, subject, "structured")
        assert len(web.sessions) == 1


async def test_what_one_user_is_listed_is_not_taken_from_another() -> None:
    async with Authority({"lists": {"Ann": [{"name": "extra", "inputSchema": {}}]}}) as web, connected(web) as (w, ann):
        assert "extra" in await w.offered()
        async with user(w) as bob:
            await connect(bob, web, "Bob")
            assert "extra" in await w.offered()
            assert not (await ask(w, ann, "structured"))["has_error"]


async def test_credentials_that_were_sealed_with_another_key_can_be_replaced() -> None:
    async with Authority() as web, connected(web) as (w, ann):
        await w.engine.db.write(lambda conn: conn.execute("update mcp_connections set sealed_tokens = ?", (b"x" * 90,)))
        await w.engine.db.write(
            lambda conn: conn.execute("update mcp_oauth_clients set sealed_client = ?", (b"x" * 90,))
        )
        assert (await own(ann))["state"] == "error"
        assert (await ask(w, ann, "structured"))["notices"] == ["authorization_required"]
        assert (await ann.delete(f"{CONNECTIONS}/double")).status_code == 204
        assert (await connect(ann, web, "Ann")).status_code == 200
        assert not (await ask(w, ann, "structured"))["has_error"]


async def test_users_who_are_idle_make_room_for_others() -> None:
    async with Authority() as web, world(user_sessions="1") as w:
        await w.add(url=web.url, **OAUTH)
        async with user(w) as ann, user(w) as bob:
            await connect(ann, web, "Ann")
            await connect(bob, web, "Bob")
            for http in (ann, bob, ann):
                assert not (await ask(w, http, "structured"))["has_error"]
            with anyio.fail_after(10):
                while len(web.sessions) > 1:
                    await anyio.sleep(0.02)


async def test_a_session_without_calls_is_closed() -> None:
    async with Authority() as web, world(user_idle="1s") as w:
        await w.add(url=web.url, **OAUTH)
        await connect(w.client, web, "Ann")
        assert len(web.sessions) == 1
        with anyio.fail_after(20):
            while web.sessions:
                await anyio.sleep(0.05)
        assert not (await ask(w, w.client, "structured"))["has_error"]


async def test_a_person_gets_and_erases_connections() -> None:
    async with Authority() as web, connected(web) as (w, ann):
        subject = await subject_of(w)
        exported = (await w.client.get(f"/api/v1/users/{subject}/export")).json()["data"]["mcp_connections"]
        assert [(one["server"], one["account"]) for one in exported] == [("double", "")]
        assert not {"sealed_tokens", "access_token"} & exported[0].keys()
        await begin(ann)
        assert (await w.client.delete(f"/api/v1/users/{subject}")).status_code == 200
        with anyio.fail_after(20):
            while (await own(ann))["state"] != "needs_authorization":
                await anyio.sleep(0.02)
        assert (await ask(w, ann, "structured"))["notices"] == ["authorization_required"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"command": "x"}, "$.auth_type"),
        ({"url": "http://a.test/mcp"}, "$.url"),
        ({"url": "https://a.test/mcp", "headers": {"authorization": "x"}}, "$.headers.Authorization"),
        ({"url": "https://a.test/mcp", "auth_client_id": "x"}, "$.auth_issuer"),
        ({"url": "https://a.test/mcp", "auth_key": "x"}, "$.auth_client_id"),
        ({"url": "https://a.test/mcp", "auth_issuer": "http://b.test"}, "$.auth_issuer"),
        ({"url": "https://a.test/mcp", "auth_grant": "client_credentials"}, "$.auth_client_id"),
        ({"url": "https://a.test/mcp", "auth_scopes": ["a b"]}, "$.auth_scopes[0]"),
    ],
)
async def test_fields_that_do_not_fit_are_refused_by_path(body: dict[str, Any], path: str) -> None:
    async with world(servers=()) as w:
        answer = await w.client.post(PATH, json={"name": "double", **OAUTH, **body})
        assert answer.status_code == 400
        assert path in [detail["path"] for detail in check_refusal(answer)["details"]]


async def test_a_client_secret_goes_to_no_other_issuer() -> None:
    async with Authority({"clients": {"engine": {"client_secret": "hunter22-secret"}}}) as web, world() as w:
        await w.add(url=web.url, **OWN, auth_issuer=web.origin)
        moved = await w.client.patch(f"{PATH}/double", json={"auth_issuer": "https://b.test"})
        assert [detail["path"] for detail in check_refusal(moved)["details"]] == ["$.auth_key"]
        anew = {"auth_issuer": "https://b.test", "auth_key": "another"}
        assert (await w.client.patch(f"{PATH}/double", json=anew)).status_code == 200
