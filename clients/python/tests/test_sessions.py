"""Sessions and tasks of real engines over a socket, by both clients."""

import asyncio
from typing import Any

import pytest

from both import BOTH, WIPE, WIPING, Caller, Kind, chat_of, scripted, wiped
from bytebrew import MessageDelta as Delta
from bytebrew_client import Done, NotFound, Task


async def ended(call: Caller, task_id: str, status: str) -> Task:
    """The task once it has a status."""
    async with asyncio.timeout(20):
        while True:
            task: Task = await call(lambda client: client.tasks.get(task_id))
            if task.status == status:
                return task
            await asyncio.sleep(0.02)


@BOTH
async def test_sessions_are_listed_read_renamed_and_deleted(kind: Kind) -> None:
    async with scripted(kind, [Delta(content="One.")]) as (call, _):
        chats = [await call.run(chat_of(call, "test", f"Hi {n}").send) for n in range(3)]
        for chat in chats:
            await call.run(chat.text)
        page = await call(lambda client: client.sessions.list(limit=2, schema="test"))
        assert (page.total, len(page.data)) == (3, 2)
        rest = await call(lambda client: client.sessions.list(limit=2, after=page.next))
        assert {one.id for one in (*page.data, *rest.data)} == {chat.session_id for chat in chats}
        session_id = chats[0].session_id
        renamed = await call(lambda client: client.sessions.rename(session_id, "Greetings"))
        assert renamed.title == "Greetings"
        detail = await call(lambda client: client.sessions.get(session_id))
        assert [one.content for one in detail.messages] == ["Hi 0", "One."]
        messages = await call(lambda client: client.sessions.messages(session_id, after=1))
        assert [one.content for one in messages.data] == ["One."]
        state = await call(lambda client: client.sessions.turn(session_id, chats[0].turn_id))
        assert (state.message, state.status) == ("One.", "completed")
        events = await call(lambda client: collected(kind, client.sessions.events(session_id, after="1")))
        assert [event.id for event in events] == ["2", "3"]
        await call(lambda client: client.sessions.delete(session_id))
        with pytest.raises(NotFound):
            await call(lambda client: client.sessions.get(session_id))


def collected(kind: Kind, events: Any) -> Any:
    """The events up to `done` of a stream that has no end."""
    if kind == "sync":
        read = []
        with events:
            for event in events:
                read.append(event)
                if isinstance(event, Done):
                    break
        return read

    async def wait() -> list[Any]:
        read = []
        async with events:
            async for event in events:
                read.append(event)
                if isinstance(event, Done):
                    break
        return read

    return wait()


@BOTH
async def test_tasks_are_made_approved_watched_and_cancelled(kind: Kind) -> None:
    async with scripted(kind, [Delta(content="Found.")]) as (call, _):
        draft = await call(lambda client: client.tasks.create("test", "Look it up", require_approval=True))
        assert draft.status == "draft"
        assert (await call(lambda client: client.tasks.approve(draft))).id == draft.id
        events = await call(lambda client: collected(kind, client.tasks.events(draft.id)))
        assert isinstance(events[-1], Done)
        assert (await ended(call, draft.id, "completed")).result == "Found."
        other = await call(lambda client: client.tasks.create("test", "Another", require_approval=True))
        await call(lambda client: client.tasks.cancel(other.id, reason="not needed"))
        page = await call(lambda client: client.tasks.list(status="cancelled"))
        assert [one.id for one in page.data] == [other.id]


@BOTH
async def test_a_task_is_answered(kind: Kind) -> None:
    wiped.clear()
    async with scripted(kind, *WIPING, plugins=(WIPE,), tools=("wipe",)) as (call, _):
        task = await call(lambda client: client.tasks.create("test", "Wipe!"))
        await ended(call, task.id, "needs_input")
        assert (await call(lambda client: client.tasks.answer(task.id, "approve", input={"disk": "sdc"}))).approved
        await ended(call, task.id, "completed")
    assert wiped == ["sdc"]
