"""A plugin whose model does what the message says, and whose tools write down what they do."""

import re
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any

import anyio
import msgspec
from msgspec import Meta, Struct

from bytebrew import (
    Http,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderEvent,
    Settings,
    Stop,
    ToolCall,
    Usage,
    hookimpl,
    tool,
)


class LedgerSettings(Struct, frozen=True, kw_only=True):
    """Where it is written down."""

    ledger: Annotated[Path, Meta(description="file to which the tools and the model add lines")] = Path("ledger")


class Ledger:
    """A file of what happened, which outlives the engine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, line: str) -> None:
        """One more thing that happened."""
        with self._path.open("a") as file:
            file.write(f"{line}\n")

    def clear(self) -> None:
        """Begins a new page."""
        self._path.unlink(missing_ok=True)

    def counts(self) -> Counter[str]:
        """How often each thing happened."""
        return Counter(self._path.read_text().splitlines() if self._path.exists() else ())


class Steps(Provider):
    """A deterministic model: the user's message is a JSON list of steps, each a list of things to do.

    Text is said, a number with a point is waited for in seconds, `[tool, input]` is called, null says the last result,
    and `{"tries": [...]}` takes another of these each time that the step is asked for.
    A summary is all marks, such as mark-7, of what it is of.
    """

    type = "steps"

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        """Does the step that comes after those that were done."""
        if request.system.startswith("Summarise"):
            self._ledger.add("summary")
            marks = re.findall(r"mark-\d+", request.messages[-1].content)
            yield MessageDelta(content=" ".join(dict.fromkeys(marks)))
            yield Usage(20, 2)
            yield Stop()
            return
        asked = (n for n, one in enumerate(request.messages) if one.role == "user" and one.content.startswith("["))
        at = max(asked)  # the engine's own words about an answer follow behind it
        done = sum(message.role == "assistant" for message in request.messages[at:])
        before = self._ledger.counts()[f"model {done}"]
        self._ledger.add(f"model {done}")
        for n, item in enumerate(msgspec.json.decode(request.messages[at].content)[done]):
            if isinstance(item, dict):
                item = item["tries"][min(before, len(item["tries"]) - 1)]
            if isinstance(item, float):
                await anyio.sleep(item)
            elif isinstance(item, list):
                yield ToolCall(item[0], item[1], f"call_{done}_{n}")
            else:
                yield MessageDelta(content=request.messages[-1].content if item is None else item)
        yield Usage(10, 1)
        yield Stop()


@hookimpl
def register_settings(register: Any) -> None:
    """Makes BYTEBREW_LEDGER known."""
    register(LedgerSettings)


@hookimpl
def register_providers(register: Any, settings: Settings) -> None:
    """The model."""
    register(Steps(Ledger(settings.of(LedgerSettings).ledger)))


@hookimpl
def register_tools(register: Any, settings: Settings) -> None:
    """Tools that may not run twice, that may, and that ask first; `slow` is how long the first run takes."""
    ledger = Ledger(settings.of(LedgerSettings).ledger)

    async def run(line: str, slow: float) -> None:
        ledger.add(line)
        await anyio.sleep(slow if ledger.counts()[line] == 1 else 0)

    @tool
    async def pay(amount: int, slow: float = 0.0) -> str:
        """Pays, which cannot be taken back."""
        await run(f"pay {amount}", slow)
        return f"paid {amount}"

    @tool(idempotent=True)
    async def look(n: int, slow: float = 0.0) -> str:
        """Looks, which does no harm."""
        await run(f"look {n}", slow)
        return f"saw {n}"

    @tool
    async def sign(name: str) -> str:
        """Signs."""
        ledger.add(f"sign {name}")
        return f"signed by {name}"

    sign.confirm = True
    for one in (pay, look, sign):
        register(one)
