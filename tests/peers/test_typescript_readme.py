"""The examples in the README of the TypeScript client compile, and run in this order against an engine."""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from bytebrew import (
    Capabilities,
    Http,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderEvent,
    Stop,
    ToolCall,
    Usage,
    tool,
)
from bytebrew.testing import ADMIN, plugin, providing, served_engine
from tests.peers.conftest import ROOT, TOOLS, run

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

README = ROOT / "clients/typescript/README.md"
QUESTIONS = [
    {"id": "size", "label": "Size", "type": "select", "options": [{"label": "S"}, {"label": "L"}]},
    {
        "id": "extras",
        "label": "With",
        "type": "multiselect",
        "options": [{"label": "Milk", "value": "milk"}, {"label": "Sugar", "value": "sugar"}],
    },
]
FORM = {"output_type": "form", "title": "Your coffee", "questions": QUESTIONS}


class Shop(Provider):
    """Answers what the examples say."""

    type = "shop"
    capabilities = Capabilities(vision=True, documents=True)

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        message = request.messages[-1]
        if message.role == "tool":
            yield MessageDelta(content=f"So: {message.content}")
        elif "Order" in message.content:
            yield ToolCall("order", {"laptop": "first"})
        elif "next shop" in message.content:
            yield ToolCall("where_am_i", {"exact": True})
        elif "coffee" in message.content and "form" not in message.content:
            yield ToolCall("show_structured_output", FORM)
        elif "under $1000" in message.content:
            yield MessageDelta(content='{"laptops": ["A", "B"]}')
        else:
            yield MessageDelta(content="Answer to: ")
            yield MessageDelta(content=message.content)
        yield Usage(1, 2)
        yield Stop()


def module() -> str:
    """All examples as one module."""
    blocks = re.findall(r"^```ts\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 10
    return "\n".join(blocks)


def compiled(installed: Path, name: str) -> None:
    (installed / "package.json").write_text('{"type": "module"}')
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable")
    run(installed, TOOLS / ".bin/tsc", *options, name)


def test_an_event_has_the_type_that_its_name_says(installed: Path) -> None:
    (installed / "narrowing.ts").write_bytes((ROOT / "tests/peers/typescript/narrowing.ts").read_bytes())
    compiled(installed, "narrowing.ts")


async def test_every_example_compiles_and_runs(installed: Path) -> None:
    names = (
        "declare const process: { env: Record<string, string | undefined>; stdout: { write(text: string): void } };\n"
    )
    (installed / "readme.ts").write_text(names + module())
    compiled(installed, "readme.ts")

    @tool(confirm=True)
    async def order(laptop: str) -> str:
        """Orders a laptop."""
        return f"{laptop} is ordered"

    orders = plugin(register_tools=lambda register: register(order))
    async with served_engine(providing(Shop()), orders) as (_, http):

        async def create(path: str, **body: Any) -> Any:
            answer = await http.post(f"/api/v1/{path}", json=body)
            assert answer.status_code == 201, answer.text
            return answer.json()

        await create("models", name="shop", type="shop", model_name="shop")
        await create("agents", name="support", model="shop", tools=["order", "show_structured_output"])
        for name in ("support", "order"):
            await create("schemas", name=name, entry_agent="support", chat_enabled=True, client_tools=True)
        page = await create("auth/tokens", name="page", scopes=["public"])
        environment = {"BYTEBREW_URL": str(http.base_url), "BYTEBREW_TOKEN": ADMIN, "PAGE_TOKEN": page["token"]}
        process = await asyncio.create_subprocess_exec(
            *(shutil.which("node") or "node", "readme.js"),
            cwd=installed,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    printed = output.decode()
    assert process.returncode == 0, printed
    for part in (
        "Answer to: What laptops do you have?",
        "order { laptop: 'first' }",
        "Answer to: Answers to the form 'Your coffee':",
        "[ 'A', 'B' ]",
        "[ 'user', 'assistant', 'user', 'assistant', 'user', 'assistant' ]",
        "404 not_found [] req_",
    ):
        assert part in printed, printed
