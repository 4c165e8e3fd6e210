"""Requests that change one thing, at the same time and while it cannot be read."""

import asyncio
from typing import Any

import anyio
import pytest

from bytebrew.base.errors import EngineError, StorageError, TooSlow
from bytebrew.base.formats import new_uuid
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.route import Request, Route
from bytebrew.contract.tool import Call, Tool
from bytebrew.testing import ScriptedProvider, chat, plugin, providing, scripted_schema, served_engine

PATH = "/api/v1/cupboard/{name}"


async def test_changes_that_race_follow_on_each_other_by_whatever_name() -> None:
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="Hello")]))) as (_, client):
        made = await client.post("/api/v1/models", json={"name": "m", "type": "scripted", "model_name": "0"})
        paths = [f"/api/v1/models/{key}" for key in (made.json()["id"], "m")]
        racing = [client.patch(paths[n % 2], json={"model_name": str(n)}) for n in range(1, 21)]
        assert {answer.status_code for answer in await asyncio.gather(*racing)} == {200}
        entries = (await client.get("/api/v1/audit?action=model.update")).json()["data"]
        steps = [
            (change["old_value"], change["new_value"])
            for entry in reversed(entries)
            for change in entry["details"]["changes"]
            if change["field"] == "model_name"
        ]
        assert [old for old, _ in steps] == ["0", *(new for _, new in steps[:-1])]


@pytest.mark.parametrize("error", [StorageError("The disk is full"), TooSlow(5)])
async def test_what_cannot_be_read_is_not_changed(error: EngineError) -> None:
    held = {"of": "cups"}

    async def get(request: Request[None]) -> Any:
        raise error

    async def put(request: Request[None]) -> Any:
        held["of"] = "plates"
        return held

    def register_routes(register: Any, engine: Any) -> None:
        register(Route(method="GET", path=PATH, scope="config", run=get, summary="Show"))
        register(Route(method="PUT", path=PATH, scope="config", run=put, summary="Change"))

    async with served_engine(plugin(register_routes=register_routes)) as (_, client):
        answer = await client.put("/api/v1/cupboard/left")
        assert (answer.status_code, answer.json()["error"], held["of"]) == (503, error.code, "cups")


class Stubborn(Tool):
    """Does not let go until its event is set."""

    name = "stubborn"
    description = "Goes on."
    input_schema: dict[str, Any] = {"type": "object", "properties": {}}

    def __init__(self) -> None:
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    async def run(self, call: Call, input: dict[str, Any]) -> str:
        self.began.set()
        with anyio.CancelScope(shield=True):
            await self.go_on.wait()
        return "over"


async def test_a_session_whose_end_takes_long_can_be_renamed() -> None:
    tool = Stubborn()
    provider = ScriptedProvider([ToolCall("stubborn", {})], [MessageDelta(content="Hello")])
    tools = plugin(register_tools=lambda register: register(tool))
    async with served_engine(providing(provider), tools) as (engine, client):
        await scripted_schema(engine, tools=("stubborn",))
        url = f"/api/v1/sessions/{(session_id := new_uuid())}"
        chatting = asyncio.create_task(chat(client, "test", "hello", session_id=session_id))
        await tool.began.wait()
        removing = asyncio.create_task(client.delete(url))
        await anyio.sleep(0.2)
        try:
            with anyio.fail_after(5):
                assert (await client.patch(url, json={"title": "Longest"})).status_code == 200
        finally:
            tool.go_on.set()
        assert (await removing).status_code == 204
        await chatting
