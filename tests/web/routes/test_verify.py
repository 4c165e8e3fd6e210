"""Verification: what it says of a model, whatever its vendor does."""

import socket
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.base.circuit_breaker import Breaker
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.provider import Capabilities
from bytebrew.conversation.model_verification import PING_TOKENS, QUESTION_TOKENS, verify
from bytebrew.engine import Engine
from bytebrew.store.configuration import models
from bytebrew.testing import ScriptedProvider, providing, served_engine
from tests.upstream import STREAM, Act, Step, Upstream, chunk, data, refused, streamed, upstream

URL = "/api/v1/models"
KEY = "sk-verify-0123456789abcdef"
PONG = streamed(data({"choices": [{"delta": {"content": "pong"}, "finish_reason": "stop"}]}, "[DONE]"))
CALL = {"index": 0, "id": "c1", "function": {"name": "calculator", "arguments": '{"expression": "1234 * 5678"}'}}
CALLS = streamed(data({"choices": [{"delta": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}, "[DONE]"))
NO_KEY = refused(401, {"error": {"message": f"Incorrect API key: {KEY}", "type": "invalid_request_error"}})


async def verified(client: httpx.AsyncClient, **model: Any) -> dict[str, Any]:
    """The answer for a new model, without its steps and its time, which is a whole number of milliseconds."""
    new = {"name": "m", "type": "openai_compatible", "model_name": "gpt", "api_key": KEY, **model}
    created = await client.post(URL, json=new)
    assert created.status_code == 201, created.text
    answer = await client.post(f"{URL}/{new['name']}/verify")
    assert answer.status_code == 200
    assert KEY not in answer.text
    found: dict[str, Any] = answer.json()
    assert type(found.pop("response_time_ms")) is int
    del found["at"], found["steps"]  # see test_verification_steps.py
    assert (found.pop("model_name"), found.pop("provider")) == (new["model_name"], new["type"])
    return found


def dead_url() -> str:
    """The address of a port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_a_good_model_answers_a_ping_and_calls_a_tool() -> None:
    async with upstream(PONG, CALLS) as vendor, served_engine() as (_, client):
        found = await verified(client, base_url=vendor.url)
    assert found == {"connectivity": "ok", "tool_calling": "supported", "error": None}
    ping, probe = (request.json for request in vendor.requests)
    assert "tools" not in ping
    assert [tool["function"]["name"] for tool in probe["tools"]] == ["calculator"]
    assert {request.headers["authorization"] for request in vendor.requests} == {f"Bearer {KEY}"}


async def test_a_model_that_calls_no_tool_is_not_detected_to() -> None:
    async with upstream(PONG) as vendor, served_engine() as (_, client):
        found = await verified(client, base_url=vendor.url)
    assert found == {"connectivity": "ok", "tool_calling": "not_detected", "error": None}


async def test_a_model_that_refuses_tools_still_answers_the_ping() -> None:
    no = refused(400, {"error": {"message": f"{KEY}: this model does not support tools"}})
    async with upstream(PONG, no) as vendor, served_engine() as (_, client):
        found = await verified(client, base_url=vendor.url)
    words = "HTTP 400: ***: this model does not support tools"
    assert found == {"connectivity": "ok", "tool_calling": "not_detected", "error": words}


async def test_a_vendor_without_tools_is_not_asked_for_one() -> None:
    class Plain(ScriptedProvider):
        capabilities = Capabilities(tools=False)

    provider = Plain([MessageDelta(content="pong")])
    async with served_engine(providing(provider)) as (_, client):
        found = await verified(client, type="scripted")
    assert found == {"connectivity": "ok", "tool_calling": "skipped", "error": None}
    assert len(provider.requests) == 1


async def test_a_wrong_key_is_told_in_the_vendors_words_and_not_repeated() -> None:
    async with upstream(NO_KEY) as vendor, served_engine() as (_, client):
        found = await verified(client, base_url=vendor.url)
    words = "connectivity check failed: HTTP 401: Incorrect API key: ***"
    assert found == {"connectivity": "error", "tool_calling": "skipped", "error": words}
    assert len(vendor.requests) == 1


TYPES = (
    "anthropic",
    "azure_openai",
    "deepseek",
    "google",
    "mistral",
    "ollama",
    "openai_compatible",
    "openrouter",
    "xai",
    "zai",
)


@pytest.mark.parametrize("type_", TYPES)
async def test_a_dead_host_is_told_for_every_type(type_: str) -> None:
    url = dead_url()
    async with served_engine() as (_, client):
        found = await verified(client, type=type_, base_url=url)
    assert found.pop("error").startswith(f"connectivity check failed: Cannot reach {url}: ")
    assert found == {"connectivity": "error", "tool_calling": "skipped"}


async def bound(engine: Engine, vendor: Upstream, client: httpx.AsyncClient) -> Any:
    new = {"name": "m", "type": "openai_compatible", "model_name": "gpt", "base_url": vendor.url}
    await client.post(URL, json=new)
    return engine.models.bind(await engine.db.read(models.target, "m"))


@pytest.mark.parametrize("silent", [[Act.HANG], [STREAM, Act.HANG]], ids=["before its head", "after its head"])
async def test_a_silent_host_is_left_within_the_time(silent: list[Any]) -> None:
    async with upstream(silent) as vendor, served_engine() as (engine, client):
        model = await bound(engine, vendor, client)
        with anyio.fail_after(2):
            found = await verify(model, engine.http, seconds=0.3)
            await vendor.left.wait()
    assert (found.connectivity, found.tool_calling) == ("error", "skipped")
    assert found.error == "connectivity check failed: No answer within 0.3 s"
    assert 300 <= found.response_time_ms < 1000


async def test_a_host_that_is_silent_to_the_tool_probe_has_still_answered_the_ping() -> None:
    async with upstream(PONG, [Act.HANG]) as vendor, served_engine() as (engine, client):
        found = await verify(await bound(engine, vendor, client), engine.http, seconds=0.3)
    assert (found.connectivity, found.tool_calling) == ("ok", "not_detected")
    assert found.error == "No answer within 0.3 s"
    assert found.response_time_ms < 300


def thought(text: str) -> bytes:
    return data({"choices": [{"delta": {"reasoning_content": text}}]})


async def test_a_first_token_is_an_answer_be_it_of_a_thought_that_does_not_end() -> None:
    thinking: list[Step] = [STREAM, chunk(thought("Hm")), Act.HANG]
    async with upstream(thinking, CALLS) as vendor, served_engine() as (engine, client):
        with anyio.fail_after(5):
            found = await verify(await bound(engine, vendor, client), engine.http)
            await vendor.left.wait()
    assert (found.connectivity, found.tool_calling, found.error) == ("ok", "supported", None)


async def test_a_ping_asks_for_few_tokens() -> None:
    async with upstream(PONG, CALLS) as vendor, served_engine() as (engine, client):
        await verify(await bound(engine, vendor, client), engine.http)
    assert [request.json["max_tokens"] for request in vendor.requests] == [PING_TOKENS, QUESTION_TOKENS]


async def test_the_time_is_the_pings() -> None:
    async with upstream([0.1, *PONG], [0.5, *CALLS]) as vendor, served_engine() as (engine, client):
        found = await verify(await bound(engine, vendor, client), engine.http)
    assert 100 <= found.response_time_ms < 500


async def test_a_failure_is_told_at_once_and_not_tried_again() -> None:
    busy = refused(503, {"error": {"message": "overloaded"}}, retry_after=5)
    async with upstream(busy) as vendor, served_engine() as (_, client):
        with anyio.fail_after(2):
            found = await verified(client, base_url=vendor.url)
    assert found["error"] == "connectivity check failed: HTTP 503: overloaded"
    assert len(vendor.requests) == 1


async def test_an_embedding_model_is_asked_for_a_vector() -> None:
    vectors = refused(200, {"data": [{"index": 0, "embedding": [0.5, 1]}]})
    async with upstream(vectors) as vendor, served_engine() as (_, client):
        found = await verified(client, base_url=vendor.url, kind="embedding")
    assert [request.path for request in vendor.requests] == ["/embeddings"]
    assert found == {"connectivity": "ok", "tool_calling": "skipped", "error": None}


async def test_verification_neither_waits_for_a_breaker_nor_counts_for_one() -> None:
    async with upstream(NO_KEY) as vendor, served_engine() as (engine, client):
        model = await bound(engine, vendor, client)
        breaker = engine.models.breakers[model.name] = Breaker(5, 60, 30)
        for _ in range(5):
            breaker.failed()
        assert "HTTP 401" in str((await verify(model, engine.http)).error)
        assert breaker.failure_count == 5


async def test_a_model_that_is_not_there_is_a_404_and_one_without_its_plugin_a_422() -> None:
    class Gone(ScriptedProvider):
        type = "gone"

    async with served_engine(providing(Gone())) as (engine, client):
        assert (await client.post(f"{URL}/nothing/verify")).status_code == 404
        await client.post(URL, json={"name": "m", "type": "gone", "model_name": "x"})
        del engine.providers["gone"]
        answer = await client.post(f"{URL}/m/verify")
    assert (answer.status_code, answer.json()["error"]) == (422, "provider_missing")
