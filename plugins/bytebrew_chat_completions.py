"""The OpenAI chat completions wire, once; each vendor that speaks it is a small object."""

from collections.abc import AsyncGenerator
from typing import Any

from bytebrew import Http, ModelRequest, Provider, ProviderEvent, Stop, hookimpl


class ChatCompletions(Provider):
    """A vendor that speaks the OpenAI wire."""

    type = "openai_compatible"
    base_url = "https://api.openai.com/v1"

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        yield Stop()


class Vendor:
    @hookimpl
    def register_providers(self, register: Any) -> None:
        register(ChatCompletions())


openai_compatible = Vendor()
