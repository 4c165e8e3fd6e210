"""Phoenix, a foreign server of traces: what it makes of ours, by its own API."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.plugins.test_traces import HEADER, SPAN, TRACE, called, said, tracing

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

BIN = Path(__file__).parents[2] / ".cache/peers/phoenix/bin"


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Phoenix."""
    assert BIN.exists(), "run tests/peers/setup.sh first"
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    folder = tmp_path_factory.mktemp("phoenix")
    given = {"PHOENIX_WORKING_DIR": str(folder), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_TELEMETRY_ENABLED": "false"}
    given |= {"PHOENIX_PORT": ports[0], "PHOENIX_GRPC_PORT": ports[1]}
    with subprocess.Popen(
        [BIN / "python", BIN / "phoenix", "serve"],
        env=os.environ | given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        url = f"http://127.0.0.1:{ports[0]}"
        try:
            wait_for(url)
            yield url
        finally:
            process.kill()


def wait_for(url: str) -> None:
    """Returns once it serves: it takes half a minute to begin."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz").status_code == 200:
                return
        time.sleep(0.5)
    raise TimeoutError("Phoenix does not begin")


async def spans_at(url: str, count: int) -> dict[str, Any]:
    """The spans by name, once it has so many."""
    async with httpx.AsyncClient(base_url=url) as client:
        with anyio.fail_after(30):
            while True:
                answer = await client.get("/v1/projects/default/spans", params={"limit": 100})
                if answer.status_code == 200 and len(found := answer.json()["data"]) >= count:
                    return {span["name"]: span for span in found}
                await anyio.sleep(0.2)


async def test_phoenix_knows_agents_models_and_tools_with_their_messages_and_tokens(phoenix: str) -> None:
    async with tracing(phoenix, called("look", what="the sea"), said("blue"), content="true") as w:
        answer = await w.say("How is it?", headers=HEADER)
        spans = await spans_at(phoenix, 4)
    turn, model, tool = (spans[name] for name in ("invoke_agent test", "chat script", "execute_tool look"))
    assert {one["span_kind"] for one in (turn, model, tool)} == {"AGENT", "LLM", "TOOL"}
    assert {one["context"]["trace_id"] for one in spans.values()} == {TRACE}
    assert turn["parent_id"] == SPAN
    assert model["parent_id"] == tool["parent_id"] == turn["context"]["span_id"]
    assert {one["attributes"]["session.id"] for one in spans.values()} == {answer["session_id"]}
    attributes = model["attributes"]
    assert attributes["llm.model_name"] == "script"
    assert attributes["llm.token_count.prompt"] + attributes["llm.token_count.completion"] in (9, 13)
    assert attributes["llm.input_messages.0.message.content"] == "How is it?"
    assert (tool["attributes"]["tool.name"], tool["attributes"]["output.value"]) == ("look", "saw the sea")
