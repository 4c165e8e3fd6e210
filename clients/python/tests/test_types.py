"""A program that uses the client gets types: mypy in its strict mode passes it, and finds mistakes."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from dataclasses import dataclass
from bytebrew_client import AsyncChat, AsyncClient, Chat, Client, Confirmation, Page, Session, Task, tool

@dataclass
class Laptops:
    names: list[str]

@tool
def where_am_i(exact: bool = False) -> str:
    return "here"

def blocking(client: Client) -> list[str]:
    chat: Chat[Laptops] = client.chat("a", "b", response_format=Laptops, tools=[where_am_i], on_busy="steer")
    for event in chat:
        if isinstance(event, Confirmation):
            chat.approve(event, input={"a": 1}).approved
    page: Page[Session] = client.sessions.list(limit=3)
    task: Task = client.tasks.create("a", "b", priority=1)
    return [*chat.reply("c").value().names, page.data[0].title, task.status]

async def waiting(client: AsyncClient) -> list[str]:
    chat: AsyncChat[Laptops] = client.chat("a", "b", response_format=Laptops)
    async for event in chat:
        if isinstance(event, Confirmation):
            (await chat.approve(event)).approved
    return [*(await chat.value()).names, (await client.sessions.list()).data[0].title]
"""
MISTAKES = (
    'def wrong(client: Client) -> int:\n    return client.chat("a", "b").text()',
    'def wrong(client: Client) -> None:\n    client.chat("a", "b", on_busy="later")',
    'def wrong(client: Client) -> None:\n    client.chat("a", "b", sesion_id="x")',
    'def wrong(client: Client) -> int:\n    return client.chat("a", "b", response_format=Laptops).value()',
    "def wrong(client: Client) -> None:\n    client.sessions.get()",
    "def wrong(client: Client) -> None:\n    client.sessions.list(limit='3')",
    "async def wrong(client: AsyncClient) -> Session:\n    return client.sessions.get('a')",
)


def test_a_program_is_typed_and_its_mistakes_are_found(tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    good.write_text(PROGRAM)
    bad = [tmp_path / f"bad_{n}.py" for n in range(len(MISTAKES))]
    for path, mistake in zip(bad, MISTAKES, strict=True):
        path.write_text(f"{PROGRAM}\n\n{mistake}\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, str(good), *map(str, bad)], cwd=tmp_path, capture_output=True, text=True, timeout=55
    )
    lines = done.stdout.splitlines()
    assert not [line for line in lines if "good.py" in line], done.stdout
    for path in bad:
        assert [line for line in lines if path.name in line and "error" in line], path.read_text()[len(PROGRAM) :]
