"""Each of the ten types of models in conversations through a whole engine, over its vendor's own wire."""

from typing import Any

import msgspec
import pytest
from bytebrew_anthropic import Anthropic
from bytebrew_google import Google
from bytebrew_ollama import Ollama

from bytebrew import Provider, tool
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.testing import THOUGHTS, WORDS, Wire, chat, names, plugin, served_engine
from bytebrew.testing.fake_vendor import CITIES, RESULTS, Subject, vendor
from tests.plugins import test_anthropic, test_google, test_ollama
from tests.plugins.test_vendors import VENDORS, WIRES

KEY = "sk-conversation-0123456789"
TYPES: dict[Provider, Wire] = {
    **{one: WIRES[one.type] for one in VENDORS},
    Anthropic(): test_anthropic.KIT,
    Google(): test_google.CONFORMANCE,
    Ollama(): test_ollama.CONFORMING,
}


@tool
async def weather(city: str) -> str:
    """Asks for the forecast of a city."""
    return dict(zip(CITIES, RESULTS, strict=True))[city]


def data(events: list[ServerSentEvent], name: str) -> list[Any]:
    return [msgspec.json.decode(event.data) for event in events if event.event == name]


def test_these_are_the_ten_types() -> None:
    seed = "ollama openai_compatible anthropic azure_openai google openrouter deepseek mistral xai zai"
    assert sorted(one.type for one in TYPES) == sorted(seed.split())


@pytest.mark.parametrize("provider", TYPES, ids=lambda one: one.type)
async def test_a_conversation_with_thinking_two_calls_a_retry_a_refusal_and_an_early_end(provider: Provider) -> None:
    subject = Subject(provider, TYPES[provider])
    answers = (
        subject.refusal(429),
        subject.answer(subject.wire.tools),
        subject.answer(subject.wire.thinking or subject.wire.text),
        subject.refusal(401),
        subject.answer(subject.beginning, end="broken"),
    )
    weathers = plugin(register_tools=lambda register: register(weather))
    async with vendor(*answers) as (double, url, _), served_engine(weathers) as (_, client):
        model = {"type": provider.type, "model_name": "model-1", "base_url": url, "api_key": KEY}
        agent = {"model": "test", "tools": ["weather"], "tool_execution": "parallel"}
        schema = {"entry_agent": "test", "chat_enabled": True}
        for path, fields in (("models", model), ("agents", agent), ("schemas", schema)):
            made = await client.post(f"/api/v1/{path}", json={"name": "test"} | fields)
            assert made.status_code == 201, made.text

        good = await chat(client, "test", "Will it rain?")
        results = sorted((one["output"], one["has_error"]) for one in data(good, "tool_result"))
        assert results == sorted((words, False) for words in RESULTS)
        assert [one["input"] for one in data(good, "tool_call")] == [{"city": city} for city in CITIES]
        assert "".join(one["content"] for one in data(good, "thinking")) == (THOUGHTS if subject.wire.thinking else "")
        assert (names(good)[-1], data(good, "message")[0]["content"]) == ("done", WORDS)
        asked = [seen.body.decode() for seen in double.requests]
        assert len(asked) == 3
        assert asked[0] == asked[1]
        told = [msgspec.json.encode(words).decode().strip('"') in asked[2] for words in RESULTS]
        assert told == [True, True]

        [refused] = data(await chat(client, "test", "And now?"), "error")
        assert (refused["code"], "BOOM 42" in refused["message"], len(double.requests)) == ("model_auth", True, 4)

        [early] = data(await chat(client, "test", "And now?"), "error")
        assert (early["code"], len(double.requests)) == ("model_unavailable", 5)
