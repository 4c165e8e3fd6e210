"""The events of a turn as faces read them: decoded, in the view of the caller, marked where the turn waits."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

import msgspec
from msgspec import UNSET

from bytebrew.base.errors import EngineError
from bytebrew.contract.events import ClientToolCalled, ConfirmationAsked, Event, MessageDelta, ToolFinished, ToolStarted
from bytebrew.contract.face import TurnEvent
from bytebrew.web import public_view


class EventDecoder:
    """Decodes frames of the journal by the types of events of an engine."""

    def __init__(self, kinds: Iterable[type[Event]]) -> None:
        self._decoders = {kind.name.encode(): msgspec.json.Decoder(kind) for kind in kinds}

    def decode(self, frame: bytes) -> tuple[int, Event | None]:
        """The number of a frame and its event; None for one of a plugin that is not loaded.

        The number is 0 for an event that is not stored.
        """
        head, _, data = frame.partition(b"\ndata: ")
        number, _, name = head.rpartition(b"event: ")
        decoder = self._decoders.get(name)
        # `id: 2:17` in the second epoch
        at = int(number[number.rindex(b":") + 1 :]) if number else 0
        return at, decoder.decode(data) if decoder else None


class TurnWaits:
    """Whether a turn waits for the client or a person alone, by its events."""

    def __init__(self, *, public: bool) -> None:
        self._open: set[str] = set()
        self._waiting: dict[str, str] = {}  # by call, the id that the caller may see
        self._public = public

    @property
    def waiting(self) -> tuple[str, ...]:
        """The ids of the calls that wait, as the caller may see them."""
        return tuple(self._waiting.values())

    def waits_after(self, event: Event) -> bool:
        """Takes the next event; whether all open calls wait after it."""
        if isinstance(event, ToolStarted | ToolFinished):
            if event.agent is not UNSET:  # a spawned agent's own
                return False
            if isinstance(event, ToolStarted):
                self._open.add(event.call_id)
                return False
            self._open.discard(event.call_id)
            self._waiting.pop(event.call_id, None)
        elif isinstance(event, ClientToolCalled | ConfirmationAsked):
            above = event.parent_call_id
            shown = event.confirmation_id if self._public and isinstance(event, ConfirmationAsked) else ""
            if above is UNSET:
                self._open.add(event.call_id)
                self._waiting[event.call_id] = shown or event.call_id
            else:  # that of an agent far below is none of the root's calls
                self._waiting |= {call: shown or call for call in ((above,) if above in self._open else self._open)}
        else:
            return False
        return bool(self._waiting) and self._open <= self._waiting.keys()


async def turn_events(
    frames: AsyncGenerator[bytes, None], decoder: EventDecoder, *, public: bool
) -> AsyncGenerator[Sequence[TurnEvent], None]:
    """The events in frames of the journal, which begin with a turn's first; an empty batch for a comment."""
    turn = TurnWaits(public=public)
    try:
        async with aclosing(frames):
            async for chunk in frames:
                batch: list[TurnEvent] = []
                for frame in chunk.split(b"\n\n"):
                    if not frame or frame.startswith(b":"):
                        continue
                    number, event = decoder.decode(frame)
                    if event is None:
                        continue
                    waits = type(event) is not MessageDelta and turn.waits_after(event)  # most events are deltas
                    shown = public_view.typed(event) if public else event
                    if shown is not None or waits:
                        batch.append(TurnEvent(number, shown, waits, turn.waiting if waits else ()))
                yield batch
    except EngineError as error:
        raise (public_view.reduced(error) if public else error) from error
