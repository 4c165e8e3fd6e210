"""The session whose history a client sends that sends all of a conversation with each request."""

from collections.abc import Sequence
from contextlib import aclosing
from hashlib import sha256
from typing import Any, NamedTuple

from msgspec.structs import replace

from bytebrew import Conversations, EarlierTurn, FaceTurn, Message, MessageDelta, MessageDone, MessageRestarted, Request


class Place(NamedTuple):
    """Where a new message goes: behind the turn `after`, or to a session that begins with `history`."""

    after: FaceTurn | None
    history: tuple[EarlierTurn, ...]


def keys(turns: Sequence[EarlierTurn]) -> list[str]:
    """A key for each turn, which depends on all of the conversation up to its message.

    White space around an answer makes no difference, and how it is divided into messages; tools make none.
    """
    found, digest = [], sha256()
    for turn in turns:
        _feed(digest, turn.message)
        found.append(digest.hexdigest())
        digest.update(b"\0" + answer_of(turn).encode() + b"\0")
    return found


def _feed(digest: Any, message: Message) -> None:
    digest.update(message.content.encode())
    for one in message.attachments:
        digest.update(b"\1" + (one.url or one.data).encode())


def answer_of(turn: EarlierTurn) -> str:
    """The text of a turn's answer as the client has it."""
    return "".join(one.content for one in turn.answers if one.role == "assistant").strip()


async def answer_so_far(turn: FaceTurn) -> str:
    """The text of a turn's answer, as far as it is stored."""
    text = ""
    async with aclosing(turn.events(live=False)) as batches:
        async for batch in batches:
            for one in batch:
                if isinstance(one.event, MessageDelta) and not one.event.agent:
                    text += one.event.content
                elif isinstance(one.event, MessageRestarted | MessageDone) and not one.event.agent:
                    text = one.event.content
    return text.strip()


async def place(
    chats: Conversations, request: Request[Any], schema: str, history: Sequence[EarlierTurn], *, user_sub: str = ""
) -> Place:
    """The caller's turn whose conversation is this history, or else the history itself, with its keys.

    It is the history itself, too, if several sessions have the same: only one of them is this client's, and each may
    have had results of tools that its history does not show.
    """
    made = keys(history)
    if history:
        answer = answer_of(history[-1])
        turns = await chats.find(request, schema, made[-1:], user_sub=user_sub)
        found = [turn for turn in turns if turn.last is not None and await answer_so_far(turn) == answer]
        if len({turn.session_id for turn in found}) == 1:
            return Place(found[0], ())
    return Place(None, tuple(replace(turn, key=key) for turn, key in zip(history, made, strict=True)))
