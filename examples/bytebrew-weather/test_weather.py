"""The weather plugin in a real engine, once it is installed beside it."""

import pytest

from bytebrew.testing import chat, names, served_engine


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_forecast_follows_the_setting() -> None:
    async with served_engine(settings={"BYTEBREW_WEATHER_MOOD": "stormy"}) as (_, client):
        for noun, body in (
            ("models", {"type": "weather", "model_name": "window"}),
            ("agents", {"model": "weather"}),
            ("schemas", {"entry_agent": "weather", "chat_enabled": True}),
        ):
            assert (await client.post(f"/api/v1/{noun}", json={"name": "weather", **body})).status_code == 201
        events = await chat(client, "weather", "What about Hamburg?")
        nothing = await chat(client, "weather", " ")
    assert names(events) == ["thinking", "message_delta", "message", "done"]
    assert '"content":"It is stormy in Hamburg. "' in events[-2].data
    assert '"code":"model_bad_request"' in nothing[-1].data
