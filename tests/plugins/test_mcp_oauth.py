"""MCP servers with OAuth: each user has own credentials, which outlive restarts and are refreshed once for all."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from bytebrew import MessageDelta, ToolCall
from bytebrew.testing import chat, token
from tests.oauth_double import Authority
from tests.plugins.test_mcp import World, world

CONNECTIONS = "/api/v1/connections"
OAUTH = {"auth_type": "oauth2"}


@asynccontextmanager
async def user(w: World, *scopes: str) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with a token of their own."""
    headers = {"Authorization": f"Bearer {await token(w.engine, *(scopes or ('chat',)))}"}
    async with httpx.AsyncClient(base_url=w.client.base_url, headers=headers, timeout=30) as http:
        yield http


async def connect(
    http: httpx.AsyncClient, web: Authority, user: str, name: str = "double", **answer: str
) -> httpx.Response:
    """Lets a user authorize the engine, in the browser that has begun."""
    begun = await http.post(f"{CONNECTIONS}/{name}")
    assert begun.status_code == 200, begun.text
    return await http.get(web.authorize(begun.json()["authorize_url"], user, **answer))


async def own(http: httpx.AsyncClient, name: str = "double") -> dict[str, Any]:
    """The caller's connection."""
    return dict(next(one for one in (await http.get(CONNECTIONS)).json() if one["server"] == name))


async def ask(w: World, http: httpx.AsyncClient, tool: str, **input: Any) -> tuple[dict[str, Any], list[Any]]:
    """What comes of one call of a tool in a chat of this caller, with the notices."""
    w.model.requests.clear()
    w.model.answers = [[ToolCall(tool, input)], [MessageDelta(content="Done.")]]
    events = await chat(http, "test", "Go on")
    assert events[-1].event == "done", events
    assert "tool_result" in [event.event for event in events], events
    result = next(json.loads(event.data) for event in events if event.event == "tool_result")
    return result, [json.loads(event.data) for event in events if event.event == "notice"]


async def test_two_users_call_with_own_credentials_in_sessions_of_their_own() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        async with user(w) as ann, user(w) as bob:
            assert (await own(ann))["state"] == "needs_authorization"
            assert (await connect(ann, web, "Ann")).status_code == 200
            refused, notices = await ask(w, bob, "echo", who={"name": "me"})
            assert refused["has_error"]
            assert "POST /api/v1/connections/double" in refused["output"]
            assert [(one["code"], one["names"]) for one in notices] == [("authorization_required", ["double"])]
            assert (await connect(bob, web, "Bob")).status_code == 200
            for http in (ann, bob, ann):
                assert not (await ask(w, http, "echo", who={"name": "me"}))[0]["has_error"]
            assert web.users() == ["Ann", "Bob", "Ann"]
            assert sorted(web.owners.values()) == ["Ann", "Bob"]
            states = [(await own(one))["state"] for one in (ann, bob)]
            assert states == ["connected", "connected"]
