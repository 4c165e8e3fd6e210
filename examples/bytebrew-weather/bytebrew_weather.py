"""A provider that answers every question with a forecast: a complete provider plugin."""

from collections.abc import AsyncGenerator
from typing import Annotated

from msgspec import Meta, Struct

from bytebrew import (
    Capabilities,
    Http,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderError,
    ProviderEvent,
    Register,
    Settings,
    Stop,
    Thinking,
    Usage,
    hookimpl,
)

bytebrew_contract = 3


class Weather(Struct, frozen=True, kw_only=True):
    """The plugin's settings; the field is read from BYTEBREW_WEATHER_MOOD."""

    weather_mood: Annotated[str, Meta(description="the weather of every forecast")] = "sunny"


class WeatherProvider(Provider):
    """A provider has a type, capabilities, and streams answers."""

    type = "weather"
    capabilities = Capabilities(tools=False, thinking=True)

    def __init__(self, mood: str) -> None:
        self._mood = mood

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        question = request.messages[-1].content
        if not question.strip():
            raise ProviderError("Ask for a place", code="model_bad_request")
        yield Thinking(content="Looking out of the window.")
        for word in ("It", "is", self._mood, "in", f"{question.split()[-1].strip('?!.')}."):
            yield MessageDelta(content=f"{word} ")
        yield Usage(input_tokens=len(question) // 4, output_tokens=5)
        yield Stop()


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(Weather)


@hookimpl
def register_providers(register: Register[Provider], settings: Settings) -> None:
    register(WeatherProvider(settings.of(Weather).weather_mood))
