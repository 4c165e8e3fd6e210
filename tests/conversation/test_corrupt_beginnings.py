"""A vendor's first chunk that cannot be read: tried again, and then another model's to answer."""

from typing import Any

import httpx
import pytest

from bytebrew.contract.events import MessageDelta
from bytebrew.testing import ScriptedProvider, chat, names, providing, served_engine
from tests.upstream import Step, broken, data, streamed, upstream

GOOD = streamed(data({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}, "[DONE]"))
TYPES = ("openai_compatible", "anthropic", "google", "ollama", "mistral")
CORRUPT: dict[str, list[Step]] = {
    "cut JSON": streamed(b'data: {"cho\n\n'),
    "other JSON": streamed(b"data: [1]\n\n"),
    "no JSON": streamed(b"data: \xff\xfe\n\n"),
    "no chunk": [*broken(), b"zz\r\n"],
}


async def configure(client: httpx.AsyncClient, url: str, type_: str = "openai_compatible", **more: Any) -> None:
    model = {"name": "m", "type": type_, "model_name": "x", "base_url": url, "api_key": "sk-corrupt", **more}
    assert (await client.post("/api/v1/models", json=model)).status_code == 201
    await client.post("/api/v1/agents", json={"name": "a", "model": "m"})
    await client.post("/api/v1/schemas", json={"name": "s", "entry_agent": "a", "chat_enabled": True})


@pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)
async def test_it_is_tried_again(corrupt: list[Step]) -> None:
    async with upstream(corrupt, GOOD) as vendor, served_engine() as (_, client):
        await configure(client, vendor.url)
        events = await chat(client, "s", "hi")
    assert names(events) == ["message_delta", "message", "done"]
    assert len(vendor.requests) == 2


@pytest.mark.parametrize("type_", TYPES)
async def test_another_model_answers_where_that_goes_on(type_: str) -> None:
    corrupt = streamed(b"{\n" if type_ == "ollama" else b"data: {\n\n")
    spare = providing(ScriptedProvider([MessageDelta(content="spare")]))
    settings = {"BYTEBREW_PROVIDER_RETRIES": "0"}
    async with upstream(corrupt) as vendor, served_engine(spare, settings=settings) as (_, client):
        await client.post("/api/v1/models", json={"name": "spare", "type": "scripted", "model_name": "x"})
        await configure(client, vendor.url, type_, fallback=["spare"])
        events = await chat(client, "s", "hi")
    assert '"content":"spare"' in events[-2].data
