"""Which session a chat of the page is in, and where in it a message goes.

The first session of a chat has an id that is made from the chat's. A message that is edited, or answered anew, goes to
a fork, where the chat goes on: the turns of a chat have one key, and the newest of them is the end of the chat. What a
page no longer shows stays in the sessions before.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from bytebrew import Conversations, FaceTurn, NotFound, Request

from .messages import ChatBody, UIMessage

_NAMESPACE = UUID("6f0d3a52-8a1f-5a0b-9d0e-5b2c4b1c7f61")


class Chat(NamedTuple):
    """A chat of a page: the key of its turns, its first session, its newest turns, and the end of it."""

    key: str
    first_session: str
    turns: Sequence[FaceTurn]
    newest: FaceTurn | None

    def by_id(self) -> dict[str, FaceTurn]:
        """Its newest turns by the ids of the messages of both sides."""
        found: dict[str, FaceTurn] = {}
        for turn in self.turns:
            found.setdefault(turn.id, turn)
            found.setdefault(kept(turn).get("message", ""), turn)
        return found


class Place(NamedTuple):
    """Where a message goes: behind a turn, in its session or in a fork; into a new session where there is none.

    `same` is the turn that the message began, if it was sent again.
    """

    before: FaceTurn | None = None
    fork: bool = False
    same: FaceTurn | None = None


def kept(turn: FaceTurn) -> Mapping[str, Any]:
    """What this face stores with a turn: the id and parts of the user's message, and the turn before."""
    return turn.kept if isinstance(turn.kept, dict) else {}


async def find(chats: Conversations, request: Request[Any], schema: str, chat_id: str) -> Chat:
    """The chat with an id of the page's; a UUID may be that of a session that began elsewhere."""
    try:
        own = str(UUID(chat_id))
    except ValueError:
        own = ""
    first = own or str(uuid5(_NAMESPACE, f"{request.actor.subject}\n{schema}\n{chat_id}"))
    key = f"ai_sdk:{first}"
    turns = await chats.find(request, schema, [key])
    newest = turns[0] if turns else None
    if newest is not None and not newest.newest:
        newest = await chats.newest(request, newest.session_id)
    elif newest is None and own:
        newest = await chats.newest(request, own)
    if newest is not None and newest.schema != schema:
        raise NotFound(f"There is no chat '{chat_id}' with '{schema}'")
    return Chat(key, first, turns, newest)


async def place(chats: Conversations, request: Request[Any], chat: Chat, body: ChatBody) -> Place:
    """Where the last message of a request goes."""
    *earlier, message = body.all
    known = chat.by_id()
    same = known.get(message.id)
    edits = body.message_id == message.id
    if body.trigger == "submit-message" and not edits and same is not None:
        return Place(same=same)
    before = await _before(chats, request, chat, known, earlier)
    if before is None and (edits or body.trigger == "regenerate-message"):
        replaced = same or known.get(body.message_id or "") or (None if body.message_id else chat.newest)
        before = await preceding(chats, request, replaced) if replaced else None
        return Place(before, fork=True)
    before = before or chat.newest
    return Place(before, fork=before is not None and chat.newest is not None and before.id != chat.newest.id)


async def preceding(chats: Conversations, request: Request[Any], turn: FaceTurn) -> FaceTurn | None:
    """The turn before one in the chat; None if it is the first, or its session was deleted."""
    before = kept(turn).get("before")
    if not before:  # of a chat that began elsewhere
        earlier = await turn.before()
        before = earlier[-1].id if earlier else ""
    return await known_turn(chats, request, before)


async def known_turn(chats: Conversations, request: Request[Any], turn_id: str) -> FaceTurn | None:
    """A turn by its id, None if the caller has no such turn."""
    try:
        return await chats.turn(request, turn_id) if turn_id else None
    except NotFound:
        return None


async def _before(
    chats: Conversations,
    request: Request[Any],
    chat: Chat,
    known: Mapping[str, FaceTurn],
    earlier: Sequence[UIMessage],
) -> FaceTurn | None:
    """The turn of the last of these messages that belongs to the chat."""
    for message in reversed(earlier):
        if message.id in known:
            return known[message.id]
        turn = await known_turn(chats, request, message.id) if message.role == "assistant" else None
        session_id = chat.newest.session_id if chat.newest else ""
        if turn is not None and (turn.key == chat.key or turn.session_id == session_id):
            return turn
    return None
