"""A plugin for the engine under test: a deterministic model that plays the script in the message."""

from collections.abc import AsyncGenerator
from typing import Any

import anyio
import msgspec

from bytebrew import Http, MessageDelta, ModelRequest, Provider, ProviderEvent, Stop, ToolCall, Usage, hookimpl


class Script(Provider):
    """Plays the last script in the conversation: a JSON list of steps, which begins at the message's first `[[`.

    A step is a list: text is sent, a number is waited for in seconds, `[tool, input]` is called. Messages behind the
    script, such as the one of a task's next attempt, go on with it. A summary says little.
    """

    type = "script"

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        """The step behind those that were answered."""
        if request.system.startswith("Summarise"):
            for one in (MessageDelta(content="much was said"), Usage(20, 3), Stop()):
                yield one
            return
        told = [n for n, one in enumerate(request.messages) if one.role == "user" and "[[" in one.content]
        content = request.messages[told[-1]].content if told else "[[]]"
        steps = msgspec.json.decode(content[content.index("[[") :])
        done = sum(one.role == "assistant" for one in request.messages[told[-1] if told else 0 :])
        for n, item in enumerate(steps[done] if done < len(steps) else ["end"]):
            if isinstance(item, float):
                await anyio.sleep(item)
            elif isinstance(item, list):
                yield ToolCall(item[0], item[1], f"call_{done}_{n}")
            else:
                yield MessageDelta(content=item)
        yield Usage(10, 1)
        yield Stop()


@hookimpl
def register_providers(register: Any) -> None:
    """The model."""
    register(Script())
