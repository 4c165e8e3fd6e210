"""An answer that a stopped engine has left half told, and that its model gives again."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bytebrew.contract.events import MessageDelta, MessageRestarted, Thinking
from bytebrew.store.open_turns import Past

if TYPE_CHECKING:
    from bytebrew.conversation.turn import Turn

Piece = Thinking | MessageDelta | MessageRestarted


class Shown:
    """What clients were shown of the step that is done again.

    `text` and `thought` are what the model has not come to yet; `kept` is the turn's text of the steps before.
    """

    def __init__(self, past: Past) -> None:
        self.text, self.thought = past.partial, past.thought
        whole = "".join(past.said)
        self.kept = whole[: len(whole) - len(past.partial)]

    def rest(self, piece: Thinking | MessageDelta) -> str | None:
        """What of the model's next piece is new to clients; None where it says something else than they were shown."""
        content = piece.content
        if isinstance(piece, Thinking):
            if self.thought.startswith(content):
                self.thought = self.thought[len(content) :]
                return ""
            if self.text or not content.startswith(self.thought):
                return None
            new, self.thought = content[len(self.thought) :], ""
            return new
        if self.thought:
            return None
        if self.text.startswith(content):
            self.text = self.text[len(content) :]
            return ""
        if not content.startswith(self.text):
            return None
        new, self.text = content[len(self.text) :], ""
        return new


def shown_before(past: Past) -> Shown | None:
    """What clients were shown of the step, if anything."""
    return Shown(past) if past.partial or past.thought else None


def unsent(turn: "Turn", shown: Shown, piece: Thinking | MessageDelta, thinking: list[str]) -> Iterator[Piece]:
    """What clients are told of a piece, the last of `turn.partial` or `thinking`: what is new to them."""
    new = shown.rest(piece)
    if new is None:
        yield from sent_anew(turn, shown, thinking)
        return
    if not shown.text and not shown.thought:
        turn.shown = None
    if new and isinstance(piece, MessageDelta):
        turn.text.append(new)
    if new:
        yield replace(piece, content=new)


def sent_anew(turn: "Turn", shown: Shown, thinking: list[str]) -> Iterator[Piece]:
    """Has clients drop what they were shown of the step, and tells it from its beginning."""
    turn.shown = None
    text = "".join(turn.partial)
    turn.text = [one for one in (shown.kept, text) if one]
    yield MessageRestarted(content=shown.kept)
    if thinking:
        yield Thinking(content="".join(thinking))
    if text:
        yield MessageDelta(content=text)
