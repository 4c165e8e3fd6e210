"""The weather plugin in a real engine; install it first."""

import pytest

from bytebrew.testing import chat, client, engine, names


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_forecast_follows_the_setting() -> None:
    async with engine(settings={"BYTEBREW_WEATHER_MOOD": "stormy"}) as running, client(running) as http:
        for noun, body in (
            ("models", {"type": "weather", "model_name": "window"}),
            ("agents", {"model": "weather"}),
            ("schemas", {"entry_agent": "weather", "chat_enabled": True}),
        ):
            assert (await http.post(f"/api/v1/{noun}", json={"name": "weather", **body})).status_code == 201
        events = await chat(http, "weather", "What about Hamburg?")
        nothing = await chat(http, "weather", " ")
    assert names(events) == ["thinking", "message_delta", "message", "done"]
    assert '"content":"It is stormy in Hamburg. "' in events[-2].data
    assert '"code":"model_bad_request"' in nothing[-1].data
