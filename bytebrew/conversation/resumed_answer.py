"""Continues an answer that a restart interrupted, while the model generates it again."""

from msgspec.structs import replace

from bytebrew.contract.events import MessageDelta, MessageRestarted, Thinking
from bytebrew.store.open_turns import ResumePoint

Piece = Thinking | MessageDelta | MessageRestarted


class ResumedStep:
    """Compares the new answer with the deltas that clients have received, and sends only the difference.

    `text` and `thinking` are the parts of the interrupted answer that the model has not repeated yet; `kept` is the
    text of the turn's earlier steps. `turn_text` is updated to the text that clients have of the turn. `done` is True
    once the answers differ or the new one is longer.
    """

    def __init__(self, point: ResumePoint, turn_text: list[str]) -> None:
        self.text, self.thinking = point.partial_text, point.partial_thinking
        whole = "".join(point.text)
        self.kept = whole[: len(whole) - len(point.partial_text)]
        self.done = not self.text and not self.thinking
        self._turn_text = turn_text

    def new_pieces(self, piece: Thinking | MessageDelta, partial: list[str], thinking: list[str]) -> list[Piece]:
        """The events for the next chunk of the answer, which is the last of `partial` or of `thinking`."""
        new = self._beyond(piece)
        if new is None:
            return self.restart(partial, thinking)
        self.done = not self.text and not self.thinking
        if not new:
            return []
        if isinstance(piece, MessageDelta):
            self._turn_text.append(new)
        return [replace(piece, content=new)]

    def restart(self, partial: list[str], thinking: list[str]) -> list[Piece]:
        """The events that make clients discard the step's text and thinking, and the step again from its beginning."""
        self.done = True
        text = "".join(partial)
        self._turn_text[:] = [part for part in (self.kept, text) if part]
        pieces: list[Piece] = [MessageRestarted(content=self.kept)]
        if thinking:
            pieces.append(Thinking(content="".join(thinking)))
        if text:
            pieces.append(MessageDelta(content=text))
        return pieces

    def _beyond(self, piece: Thinking | MessageDelta) -> str | None:
        """The part of the next chunk that clients do not have yet; None if the chunk differs from what they have."""
        content = piece.content
        if isinstance(piece, Thinking):
            if self.thinking.startswith(content):
                self.thinking = self.thinking[len(content) :]
                return ""
            if self.text or not content.startswith(self.thinking):
                return None
            new, self.thinking = content[len(self.thinking) :], ""
            return new
        if self.thinking:
            return None
        if self.text.startswith(content):
            self.text = self.text[len(content) :]
            return ""
        if not content.startswith(self.text):
            return None
        new, self.text = content[len(self.text) :], ""
        return new
