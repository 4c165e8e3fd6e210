"""The place of a request in what the engine has: clients of this protocol send the whole conversation each time."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from msgspec.json import encode
from msgspec.structs import replace

from bytebrew import Conversations, EarlierTurn, FaceTurn, Message, Request, earlier_turns

from .answers import Answer
from .chunks import answers_of
from .questions import verdict

MOST_ANSWERS = 50
"""So many of a conversation's last turns are looked up."""


class Position(NamedTuple):
    """Where a conversation has come to in a turn: behind its answer number `n`, and behind so many messages.

    `results` are what the conversation has for the calls of that answer. `approves` answers its questions. With
    `has_ids` the conversation has calls of the turn, all by their ids.
    """

    turn: FaceTurn
    n: int
    answer: Answer
    reach: int
    results: dict[str, str]
    approves: bool | None = None
    has_ids: bool = False


class Conversation:
    """The messages of user, assistant and tools that a request has.

    A turn is found by a hash of all messages up to its own. That of a turn which the client has brought is one of all
    messages up to the next turn's, so that it has the answers too.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        digest, self._digests = sha256(b"openai_chat"), [""]
        for one in messages:
            calls = [(call.tool, call.input, call.malformed) for call in one.tool_calls]
            files = [(file.media_type, file.url or file.data) for file in one.attachments]
            digest.update(encode((one.role, one.content.strip(), calls, files), order="deterministic") + b"\n")
            self._digests.append(digest.hexdigest())
        roles = [one.role for one in messages]
        self.new = next((n + 1 for n in range(len(roles) - 1, -1, -1) if roles[n] != "user"), 0)
        """Where the last messages of the user begin."""
        self._answers = [n for n in range(1, len(roles)) if roles[n] != "user" and roles[n - 1] == "user"]

    @property
    def key(self) -> str:
        """The key of the turn that its last messages begin."""
        return self._digests[-1]

    def earlier(self, first: int, last: int) -> tuple[EarlierTurn, ...]:
        """The turns of some of its messages; ValueError if these do not begin with one of the user."""
        made, at = [], first
        for turn in earlier_turns(self.messages[first:last]):
            while at < last and self.messages[at].role == "user":
                at += 1
            at += len(turn.answers)
            made.append(replace(turn, key=f"-{self._digests[at]}"))
        return tuple(made)

    async def find(
        self, chats: Conversations, request: Request[Any], schema: str, user: str, session_id: str | None
    ) -> Position | None:
        """The newest turn of the caller of which this conversation has an answer; in the session, if there is one."""
        starts = self._answers[: -MOST_ANSWERS - 1 : -1]
        for some in (starts[:1], starts[1:]):
            if not some:
                break
            keys = {
                key: start for start in some for key in (self._digests[start], f"-{self._digests[self._end(start)]}")
            }
            turns = await chats.find(request, schema, list(keys), user_sub=user)
            for start in some:
                found = [
                    position
                    for turn in turns
                    if keys[turn.key] == start
                    and session_id in (None, turn.session_id)
                    and (position := await self.within(turn, start)) is not None
                ]
                if found:
                    return self._only(found)
        return None

    def _only(self, positions: Sequence[Position]) -> Position | None:
        """The position that is the client's.

        Ids of calls say which, if there are any. Else several sessions have had the same conversation, and each may
        have had results of tools that it does not show: then none is.
        """
        if self.messages[-1].role == "tool":
            return min(positions, key=lambda position: (not position.has_ids, position.turn.last is not None))
        with_ids = [position for position in positions if position.has_ids] or positions
        return with_ids[0] if len({position.turn.session_id for position in with_ids}) == 1 else None

    def start(self, key: str) -> int | None:
        """Where the answers of the turn with this key begin, if it is one of this conversation's."""
        return next((start for start in self._answers if key == self._digests[start]), None)

    async def within(self, turn: FaceTurn, start: int) -> Position | None:
        """How far the messages from `start` are those of a turn; None if they are not."""
        end = self._end(start)
        if turn.key.startswith("-"):
            return Position(turn, 0, Answer(), end, {})
        answers = await answers_of(turn)
        return self._divided(turn, answers, start) or self._joined(turn, answers, start, end)

    def _divided(self, turn: FaceTurn, answers: Sequence[Answer], at: int) -> Position | None:
        """With a message for each answer, as the face has given them."""
        position: Position | None = None
        same: list[bool] = []
        for n, answer in enumerate(answers):
            if at == len(self.messages) or not _same(self.messages[at], answer):
                break
            called, at = self.messages[at].tool_calls, at + 1
            ids = {theirs.call_id: ours.call_id for theirs, ours in zip(called, answer.calls, strict=True)}
            same += [theirs == ours for theirs, ours in ids.items()]
            results: dict[str, str] = {}
            while at < len(self.messages) and (message := self.messages[at]).role == "tool":
                results[ids.get(message.call_id, message.call_id)] = message.content
                at += 1
            if any(_differs(answer.results[call], results[call]) for call in answer.results.keys() & results):
                return None
            position = Position(turn, n, answer, at, results, has_ids=bool(same) and all(same))
            approves = verdict(self.messages[at].content) if answer.questions and self._is_alone(at) else None
            if approves is not None:
                at += 1
                position = position._replace(reach=at, approves=approves)
        behind = position is not None and (at == len(self.messages) or self.messages[at].role == "user")
        return position if behind else None

    def _joined(self, turn: FaceTurn, answers: Sequence[Answer], start: int, end: int) -> Position | None:
        """With the texts alone, as clients keep them that forget how an answer came about."""
        said = [one for one in self.messages[start:end] if one.role == "assistant"]
        if not answers[-1].ended or any(one.tool_calls for one in said):
            return None
        text = "".join(one.content for one in said).strip()
        whole = ["".join(one.text for one in answers), "".join(one.streamed_text for one in answers), answers[-1].text]
        if text not in [one.strip() for one in whole]:
            return None
        return Position(turn, len(answers) - 1, answers[-1], end, {})

    def _end(self, start: int) -> int:
        """Where the next messages of the user begin behind an answer."""
        behind = range(start, len(self.messages))
        return next((n for n in behind if self.messages[n].role == "user"), len(self.messages))

    def _is_alone(self, at: int) -> bool:
        """Whether there is one message of the user here, of text alone."""
        here = [one for one in self.messages[at : at + 2] if one.role == "user"]
        return len(here) == 1 and self.messages[at] is here[0] and not here[0].attachments


def _same(message: Message, answer: Answer) -> bool:
    if message.role != "assistant" or not answer.ended or answer.error is not None:
        return False
    calls = [(call.tool, call.input) for call in message.tool_calls]
    if calls != [(call.tool, dict(call.input)) for call in answer.calls]:
        return False
    return message.content.strip() in (answer.text.strip(), answer.streamed_text.strip())


def _differs(stored: str, brought: str) -> bool:
    """Whether results are not the same; a stored one may have a note before it, or its end left out."""
    beginning, is_partial, _ = stored.rpartition("\n[cut: ")
    return not (stored.endswith(brought) or (is_partial and brought.startswith(beginning)))
