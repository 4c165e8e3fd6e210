"""Engines that are killed and started again in the middle of a chat: its transcript is as if there had been none."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from both import BOTH, Caller, Kind, calling
from bytebrew_client import ClientToolCall, Confirmation, Done, Event, tool
from tests.peers.served import SCHEMA, Served, served, slow, steps

WORDS = slow(*(f"wörd {n} \u2028" for n in range(12)), seconds=0.01)
MESSAGE = steps([{"think": "Hm."}, *WORDS, ["weather", {"city": "Oslo"}]], [*WORDS, None])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def transcript(events: list[Event]) -> list[Any]:
    """Events without the ids of their session and turn."""
    fields = ("content", "data", "tool", "input", "output", "call_id", "has_error", "status", "finish_reason")
    return [(type(event), event.id, *(getattr(event, name, None) for name in fields)) for event in events]


def restarting(engine: Served, kind: Kind, *places: int) -> Any:
    """Kills the engine and starts it again behind so many events."""
    seen = 0

    def react(event: Event) -> Any:
        nonlocal seen
        seen += 1
        return restart(engine, kind) if seen in places else None

    return react


def restart(engine: Served, kind: Kind) -> Any:
    def kill_and_start() -> None:
        engine.kill()
        engine.start()

    return kill_and_start() if kind == "sync" else asyncio.to_thread(kill_and_start)


async def undisturbed(call: Caller, **options: Any) -> list[Any]:
    return transcript(await call.events(call.client.chat(SCHEMA, MESSAGE, **options)))


@BOTH
@pytest.mark.parametrize("places", [(1,), (5,), (14,), (16,), (20, 24)])
async def test_a_transcript_is_whole_over_a_kill(kind: Kind, places: tuple[int, ...], engine: Served) -> None:
    async with calling(kind, engine.url, engine.token) as call:
        calm = await undisturbed(call)
        chat = call.client.chat(SCHEMA, MESSAGE)
        events = await call.events(chat, restarting(engine, kind, *places))
        assert transcript(events) == calm
        assert [event.id for event in events] == [str(n) for n in range(1, len(calm) + 1)]
        assert await call.run(chat.text) == events[-2].content  # type: ignore[attr-defined]
    assert [role for role, _, _ in engine.messages(chat.session_id)] == ["user", "assistant", "tool", "assistant"]


@BOTH
async def test_a_message_that_was_sent_while_the_engine_was_down_is_answered(kind: Kind, engine: Served) -> None:
    async with calling(kind, engine.url, engine.token) as call:
        calm = await undisturbed(call)
        engine.kill()
        talking = asyncio.create_task(call.events(call.client.chat(SCHEMA, MESSAGE)))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(engine.start)
        assert transcript(await talking) == calm


@BOTH
async def test_an_approval_outlives_a_kill(kind: Kind, engine: Served) -> None:
    async with calling(kind, engine.url, engine.token) as call:
        chat = call.client.chat(SCHEMA, steps([["pay", {"amount": 3}]], [None]))
        answer = await call.run(chat.answer)
        assert answer.status == "needs_input"
        await asyncio.to_thread(engine.kill)
        approving = asyncio.create_task(call.run(lambda: chat.approve(answer.questions[0])))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(engine.start)
        assert (await approving).approved
        assert await call.run(chat.text) == "paid 3"


@BOTH
async def test_a_tool_of_the_client_runs_once_over_a_kill(kind: Kind, engine: Served) -> None:
    runs: list[int] = []

    @tool
    def count(by: int) -> int:
        """Counts."""
        runs.append(by)
        return sum(runs)

    message = steps([["count", {"by": 2}]], ["It is ", None])
    async with calling(kind, engine.url, engine.token) as call:
        chat = call.client.chat(SCHEMA, message, tools=[count])
        events = await call.events(
            chat, lambda event: restart(engine, kind) if isinstance(event, ClientToolCall) else None
        )
        assert await call.run(chat.text) == "It is 2"
    assert runs == [2]
    assert len([event for event in events if isinstance(event, ClientToolCall)]) == 1


@BOTH
async def test_an_engine_that_is_stopped_and_started_is_waited_for(kind: Kind, tmp_path: Path) -> None:
    with served(tmp_path, BYTEBREW_DRAIN_SECONDS="0") as engine:
        async with calling(kind, engine.url, engine.token) as call:
            calm = await undisturbed(call)

            def stop_and_start() -> None:
                engine._process.stop()  # the stream ends with an error that is not the turn's
                engine.start()

            seen = 0

            def react(event: Event) -> Any:
                nonlocal seen
                seen += 1
                if seen != 6:
                    return None
                return stop_and_start() if kind == "sync" else asyncio.to_thread(stop_and_start)

            events = await call.events(call.client.chat(SCHEMA, MESSAGE), react)
    assert transcript(events) == calm
    assert isinstance(events[-1], Done)
    assert not [event for event in events if isinstance(event, Confirmation)]
