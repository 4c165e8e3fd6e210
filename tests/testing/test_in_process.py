"""The client of bytebrew.testing: an engine in this process, without a socket, as a client over one sees it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from bytebrew import MessageDelta, Reply, Request, Route, Stream
from bytebrew.testing import (
    ScriptedProvider,
    chat,
    client,
    engine,
    events_of,
    names,
    plugin,
    providing,
    scripted_schema,
    served_engine,
    token,
)


async def test_it_answers_as_an_engine_on_a_socket_does() -> None:
    async with served_engine() as (running, over_socket), client(running) as http:
        for method, path, body in (
            ("POST", "/api/v1/agents", {"name": "swan", "nonsense": 1}),
            ("GET", "/api/v1/agents/demo", None),
            ("GET", "/nowhere", None),
            ("DELETE", "/api/v1/health", None),
            ("GET", "/api/v1/sessions?limit=1&after=%20", None),
        ):
            first, second = [await one.request(method, path, json=body) for one in (over_socket, http)]
            assert (second.status_code, second.text) == (first.status_code, first.text)
            varying = {"x-request-id", "date"}
            assert set(second.headers) - varying == set(first.headers) - varying


async def test_a_stream_comes_as_it_is_made() -> None:
    gate = asyncio.Event()
    model = ScriptedProvider([MessageDelta(content="Half"), gate, MessageDelta(content=" and half.")])
    async with engine(providing(model)) as running, client(running) as http:
        await scripted_schema(running)
        async with http.stream("POST", "/api/v1/schemas/test/chat", json={"message": "hi"}) as response:
            events = events_of(response)
            assert json.loads((await anext(events)).data)["content"] == "Half"
            gate.set()
            assert names([event async for event in events]) == ["message_delta", "message", "done"]
        assert names(await chat(http, "test", "again")) == ["message_delta", "message", "done"]


async def test_a_client_that_closes_a_stream_has_left() -> None:
    ended = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"data: quack\n\n" * 100
        finally:
            ended.set()

    async def run(request: Request[None]) -> Stream:
        return Stream(frames=frames())

    def register_routes(register: Any) -> None:
        register(Route(method="GET", path="/quack", scope="chat", run=run, summary="Quack", streams=True))

    async with engine(plugin(register_routes=register_routes)) as running:
        async with client(running) as http:
            async with http.stream("GET", "/quack") as response:
                assert (await anext(response.aiter_bytes())).startswith(b": ok")
            await asyncio.wait_for(ended.wait(), 5)
            ended.clear()
            response = await http.send(http.build_request("GET", "/quack"), stream=True)
        await asyncio.wait_for(ended.wait(), 5)  # the client as a whole was closed


async def test_a_client_without_admin_is_refused_what_it_may_not_do() -> None:
    async with engine() as running:
        async with client(running, await token(running, "chat", schemas=["demo"])) as visitor:
            assert (await visitor.get("/api/v1/agents")).status_code == 403
            assert names(await chat(visitor, "demo", "hello"))[-1] == "done"
        async with client(running, token="") as nobody:
            assert (await nobody.get("/api/v1/agents")).status_code == 401


async def test_a_fault_in_the_middle_of_an_answer_comes_to_the_client() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"quack"
        raise ZeroDivisionError

    async def breaks(request: Request[None]) -> Stream:
        return Stream(frames=frames(), headers={"content-type": "text/plain"})

    async def fails(request: Request[None]) -> Reply:
        raise ZeroDivisionError

    def register_routes(register: Any) -> None:
        register(Route(method="GET", path="/breaks", scope=None, run=breaks, summary="Break"))
        register(Route(method="GET", path="/fails", scope=None, run=fails, summary="Fail"))

    async with engine(plugin(register_routes=register_routes)) as running, client(running) as http:
        assert (await http.get("/fails")).status_code == 500
        with pytest.raises(RuntimeError, match="The engine failed; its log has the trace"):
            await http.get("/breaks")


async def test_bodies_and_queries_arrive_as_they_are_sent() -> None:
    async def run(request: Request[Any]) -> Reply:
        return Reply(body=[request.path["rest"], request.query["q"], request.headers["x-one"], request.body["text"]])

    def register_routes(register: Any) -> None:
        given: dict[str, Any] = {"summary": "Put", "body": dict[str, Any], "query": {"q": "anything"}}
        register(Route(method="PUT", path="/put/{rest}", scope=None, run=run, **given))

    async with engine(plugin(register_routes=register_routes)) as running, client(running) as http:
        response: httpx.Response = await http.put(
            "/put/ü%20x", params={"q": "a&b=c"}, headers={"X-One": "1"}, json={"text": "ö"}
        )
        assert response.json() == ["ü x", "a&b=c", "1", "ö"]
