"""A plugin whose model takes its time and says the same each time; a real engine loads it from a folder."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from bytebrew import (
    Capabilities,
    Http,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderEvent,
    Stop,
    Thinking,
    ToolCall,
    Usage,
    hookimpl,
    tool,
)

COUNTING = [[one for n in range(1, 41) for one in (f"word {n} ", 0.03)]]
"""The steps of a message without any: 40 deltas in 1.2 seconds."""
CITY = re.compile(r"weather in (\w+)")
STEPS = re.compile(r"\[\[.*\]\]")


class Paced(Provider):
    """A deterministic model: the newest message of the user has a JSON list of steps, each a list of what to do.

    Text is said, a number with a point is waited for in seconds, `{"think": text}` is reasoning, `[tool, input]` is
    called, and null says the last result. A later step is done once the tools of the one before have results. Without
    steps it knows the weather in a city, and else counts.
    """

    type = "paced"
    capabilities = Capabilities(vision=True, documents=True)

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        at = max(n for n, one in enumerate(request.messages) if one.role == "user")
        done = sum(one.role == "assistant" for one in request.messages[at:])
        found, city = (pattern.search(request.messages[at].content) for pattern in (STEPS, CITY))
        steps = msgspec.json.decode(found[0]) if found else COUNTING
        if city and not found:
            steps = [["Let ", 0.03, "me ", 0.03, "look. ", ["weather", {"city": city[1]}]], [None, 0.03, "."]]
        for n, item in enumerate(steps[done] if done < len(steps) else ["That is all."]):
            if isinstance(item, float):
                await asyncio.sleep(item)
            elif isinstance(item, list):
                yield ToolCall(item[0], item[1], f"call_{done}_{n}")
            elif isinstance(item, dict):
                yield Thinking(content=item["think"])
            else:
                yield MessageDelta(content=request.messages[-1].content if item is None else item)
        yield Usage(10, 5)
        yield Stop()


@hookimpl
def register_providers(register: Any) -> None:
    """The model."""
    register(Paced())


@hookimpl
def register_tools(register: Any) -> None:
    """A tool that may run again, and one that a person is asked about."""

    @tool(idempotent=True)
    async def weather(city: str) -> str:
        """The weather in a city."""
        return f"Sunny in {city}"

    @tool
    async def pay(amount: int) -> str:
        """Pays an amount."""
        return f"paid {amount}"

    pay.confirm = True
    register(weather)
    register(pay)
