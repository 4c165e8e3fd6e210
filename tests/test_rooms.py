"""How many of our files a chat runs through, and how often it moves between them: few enough to read in an afternoon.

A move is a call of a function in another of our files than its caller's; each resumption of a coroutine is not.
Of the files 6 are the HTTP server, and 4 the client of vendors.
"""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

import bytebrew
from bytebrew.engine import Engine
from bytebrew.testing import served_engine
from bytebrew.web.admission import Limit
from bytebrew.web.http_state import http_state
from tests.upstream import Upstream, data, streamed, upstream

ROOT = Path(bytebrew.__file__).parent.parent
SUSPENDS = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
BEGINNING = 4
"""A frame that has run no further than this has not been suspended: it begins with RETURN_GENERATOR and POP_TOP."""


class Crossed:
    """The files that ran, and the moves between them."""

    def __init__(self) -> None:
        self.recording = False
        self.files: set[str] = set()
        self.moves: Counter[tuple[str, str]] = Counter()
        self._names: dict[str, str] = {}

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """Takes in a call, as a profile function."""
        if not self.recording or event != "call" or not (name := self._ours(frame)):
            return
        if frame.f_code.co_name != "<module>":
            self.files.add(name)
        caller = frame.f_back and self._ours(frame.f_back)
        if caller and caller != name and not (frame.f_code.co_flags & SUSPENDS and frame.f_lasti > BEGINNING):
            self.moves[caller, name] += 1

    def _ours(self, frame: FrameType) -> str:
        """A file's path within the repository, nothing where it is none of the product's."""
        path = frame.f_code.co_filename
        if (name := self._names.get(path)) is None:
            within = Path(path).is_relative_to(ROOT) and Path(path).relative_to(ROOT).parts[0] in (
                "bytebrew",
                "plugins",
            )
            name = self._names[path] = Path(path).relative_to(ROOT).as_posix() if within else ""
        return name

    def check(self, files: int, moves: int) -> None:
        """Fails where there are more of one than are allowed."""
        assert len(self.files) <= files, "\n".join(sorted(self.files))
        assert self.moves.total() <= moves, "\n".join(f"{n} {pair}" for pair, n in self.moves.most_common())


@contextmanager
def profiled() -> Iterator[Crossed]:
    """Has every thread that begins within the block, and this one, note its calls."""
    crossed = Crossed()
    threading.setprofile(crossed.note)  # for the database's threads
    sys.setprofile(crossed.note)
    try:
        yield crossed
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


async def later_chats(crossed: Crossed, engine: Engine, client: httpx.AsyncClient, schema: str) -> None:
    """Chats with one tool call each, and keeps what that of them has run which the clock has added least to."""
    admission = http_state(engine).admission
    kept: tuple[set[str], Counter[tuple[str, str]]] | None = None
    for recording in (False, True, True, True):
        admission.limit = Limit()  # which a busy machine may have lowered; more files run then
        admission.close()  # it looks at the event loop from time to time, not for this chat
        crossed.files, crossed.moves, crossed.recording = set(), Counter(), recording
        body = {"message": "What is the current_time?"}
        answer = await client.post(f"/api/v1/schemas/{schema}/chat", json=body)
        crossed.recording = False
        assert "event: tool_result" in answer.text
        assert "event: done" in answer.text
        if recording and (kept is None or crossed.moves.total() < kept[1].total()):
            kept = crossed.files, crossed.moves
    assert kept is not None
    crossed.files, crossed.moves = kept
    assert {"bytebrew/conversation/agent_loop.py", "bytebrew/store/turns.py"} <= crossed.files


@pytest.mark.sqlite
async def test_a_chat_with_the_demo_model_crosses_at_most_31_files() -> None:
    with profiled() as crossed:
        async with served_engine() as (running, client):
            await later_chats(crossed, running, client, "demo")
    assert "plugins/bytebrew_demo.py" in crossed.files
    crossed.check(files=31, moves=211)


async def with_provider(client: httpx.AsyncClient, double: Upstream) -> None:
    """Creates a model of the double, with an agent and a schema."""
    model = {"name": "m", "type": "openai_compatible", "model_name": "m", "base_url": f"{double.url}/v1"}
    for path, body in (
        ("models", model),
        ("agents", {"name": "a", "model": "m", "tools": ["current_time"]}),
        ("schemas", {"name": "network", "entry_agent": "a", "chat_enabled": True}),
    ):
        assert (await client.post(f"/api/v1/{path}", json=body)).status_code == 201


def spoken(reason: str, **delta: Any) -> list[Any]:
    """A streamed answer of one delta on the OpenAI wire."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    return streamed(data({"choices": [choice]}, {"choices": [], "usage": usage}, "[DONE]"))


@pytest.mark.sqlite
async def test_a_chat_with_a_provider_over_a_socket_crosses_at_most_40_files() -> None:
    function = {"name": "current_time", "arguments": "{}"}
    call = spoken("tool_calls", tool_calls=[{"index": 0, "id": "call_1", "function": function}])
    text = spoken("stop", content="It is noon.")
    with profiled() as crossed:
        async with upstream(*(call, text) * 4) as double, served_engine() as (running, client):
            await with_provider(client, double)
            await later_chats(crossed, running, client, "network")
    assert "plugins/bytebrew_chat_completions/provider.py" in crossed.files
    crossed.check(files=40, moves=280)
