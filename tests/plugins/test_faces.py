"""What holds for the projection of every face: it is a function of events, whole at its end, and shows no more."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from bytebrew_ag_ui.kept import Kept as ThreadKept
from bytebrew_ag_ui.run import Run
from bytebrew_ai_sdk.projection import UIMessageStream
from bytebrew_mcp_server.calls import CallProjection, RpcRequest
from bytebrew_mcp_server.revisions import Client
from bytebrew_openai.chat.answers import Kept
from bytebrew_openai.chat.chunks import Chunks
from bytebrew_openai.responses.projection import ResponseProjection
from bytebrew_openai.responses.response import ResponseId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace

from bytebrew import Done, FaceTurn, MessageDelta, MessageDone, Projection, TurnEvent, Usage, project
from bytebrew.contract.face import KEEP_ALIVE
from tests.plugins.generated_turns import SECRET, SESSION, TOKENS, TURN, StoredTurn, Turn, chunks_of, turns
from tests.plugins.test_openai_responses_projection import kept


class Projected(NamedTuple):
    """A face's projection: `make` begins one for a turn, `ends` checks a stream that has ended.

    `kept` are what the face may have stored with a turn.
    """

    make: Callable[[FaceTurn], Projection]
    ends: Callable[[bytes], bool]
    kept: tuple[Any, ...] = (None,)


class Lines:
    """The projection of no protocol: a line for each event, up to where the turn waits."""

    def __init__(self, turn: FaceTurn) -> None:
        self.ended = False

    def frames(self, one: TurnEvent) -> bytes:
        if one.event is None:
            self.ended = one.waits
            return b'data: {"name":"waits"}\n\n' if one.waits else b""
        self.ended = one.waits or one.event.name in ("done", "error")
        return b"data: %s\n\n" % json.dumps({"name": one.event.name, **to_builtins(one.event)}).encode()


COMPLETIONS = (
    None,
    *(
        to_builtins(Kept(link="http://localhost", as_tools=as_tools, whole=whole))
        for as_tools in (False, True)
        for whole in (False, True)
    ),
)


def ends_completion(body: bytes) -> bool:
    last = body.rpartition(b"\n\ndata: ")[2]
    return body.endswith(b"data: [DONE]\n\n") or last.startswith(b'{"error":') or body.startswith(b'data: {"error":')


def mcp(revision: str, *, may_ask: bool) -> Projected:
    """The stream of a tool call with progress, which the response ends."""

    def make(turn: FaceTurn) -> Projection:
        return CallProjection(turn, Client(revision, may_ask), RpcRequest("call", "token", may_ask=may_ask))

    def ends(body: bytes) -> bool:
        return b'"id":"call","result":' in body.rpartition(b"\ndata: ")[2]

    return Projected(make, ends, (None, {"structured": True}))


PROJECTIONS: Mapping[str, Projected] = {
    "mcp 2026-07-28": mcp("2026-07-28", may_ask=True),
    "mcp 2025-11-25": mcp("2025-11-25", may_ask=True),
    "mcp 2025-06-18": mcp("2025-06-18", may_ask=False),
    "ag_ui": Projected(
        lambda turn: Run(turn, ThreadKept(thread="t", message="m", tools=tuple(turn.kept or ())), "r"),
        lambda body: b'"RUN_' in body.split(b"\n\n")[-2],
        ((), ("locate",)),
    ),
    "lines": Projected(Lines, lambda body: body.endswith(b"\n\n")),
    "openai_responses": Projected(
        lambda turn: ResponseProjection(turn, ResponseId(turn.id)),
        lambda body: body.endswith(b"data: [DONE]\n\n"),
        tuple(kept(background=background) for background in (False, True)),
    ),
    "openai_chat": Projected(partial(Chunks, usage=True), ends_completion, COMPLETIONS),
    "ai_sdk": Projected(UIMessageStream, lambda body: body.endswith(b"\n\ndata: [DONE]\n\n")),
}
"""The projections of the bundled faces, and one that has the rules alone."""

every_face = pytest.mark.parametrize("face", PROJECTIONS.values(), ids=PROJECTIONS)
LONG = [HealthCheck.too_slow, HealthCheck.data_too_large]  # turns are long, and other tests run beside these
some = settings(max_examples=60, deadline=None, suppress_health_check=LONG)


async def streamed(face: Projected, turn: StoredTurn, after: int = 0) -> bytes:
    """The stream of a turn, without its comments."""
    chunks = [chunk async for chunk in project(turn, face.make(turn), after)]
    return b"".join(chunk for chunk in chunks if chunk != KEEP_ALIVE)


async def folded(face: Projected, turn: StoredTurn) -> list[tuple[int, bytes]]:
    """The frames of each event, with its number, up to the end of the stream."""
    projection, made = face.make(turn), []
    async for batch in turn.events():
        for one in batch:
            made.append((one.number, projection.frames(one)))
            if projection.ended:
                return made
    raise AssertionError("the turn has ended, and its stream has not")


async def check_bytes(face: Projected, stored: StoredTurn, chunks: list[bytes]) -> None:
    """Fails unless the stream is that of the events alone, in these chunks and on another day."""
    whole = await streamed(face, stored)
    assert whole == b"".join(made for _, made in await folded(face, stored))
    with patch("time.time", return_value=4102444800.0):
        assert await streamed(face, replace(stored, chunks=chunks)) == whole


async def check_end(face: Projected, stored: StoredTurn) -> None:
    """Fails unless the stream ends as its protocol says."""
    body = await streamed(face, stored)
    assert face.ends(body), body[-500:]


class Drawn(NamedTuple):
    """A turn by chance, its frames in batches, the number of one of its events, and a number that chooses."""

    turn: Turn
    chunks: list[bytes]
    after: int
    choice: int

    def stored(self, face: Projected, *, public: bool) -> StoredTurn:
        """The turn with something that the face may have kept."""
        return StoredTurn(turn=self.turn, kept=face.kept[self.choice % len(face.kept)], public=public)


DRAWN = turns().flatmap(  # before a test begins: its event loop would keep what a draw breaks off
    lambda turn: st.builds(
        Drawn, st.just(turn), chunks_of(turn), st.sampled_from([n for n, _ in turn]), st.integers(0, 11)
    )
)


@every_face
@some
@given(drawn=DRAWN, public=st.booleans())
async def test_a_stream_has_the_same_bytes_however_its_events_come_and_whenever_it_is_read(
    face: Projected, drawn: Drawn, public: bool
) -> None:
    await check_bytes(face, drawn.stored(face, public=public), drawn.chunks)


@every_face
@some
@given(drawn=DRAWN, public=st.booleans())
async def test_a_cursor_leaves_out_the_frames_up_to_it_and_changes_no_other(
    face: Projected, drawn: Drawn, public: bool
) -> None:
    stored = replace(drawn.stored(face, public=public), chunks=drawn.chunks)
    rest = b"".join(made for number, made in await folded(face, stored) if not 0 < number <= drawn.after)
    assert await streamed(face, stored, drawn.after) == rest


@every_face
@some
@given(drawn=DRAWN, public=st.booleans())
async def test_a_stream_ends_as_its_protocol_says(face: Projected, drawn: Drawn, public: bool) -> None:
    await check_end(face, drawn.stored(face, public=public))


@every_face
@some
@given(drawn=DRAWN)
async def test_a_stream_in_the_public_view_shows_nothing_that_is_hidden(face: Projected, drawn: Drawn) -> None:
    body = (await streamed(face, drawn.stored(face, public=True))).decode()
    assert SECRET not in body
    assert str(TOKENS)[:4] not in body


class Counting(Lines):
    """Has something that is not in the events: how many streams there were."""

    streams = 0

    def __init__(self, turn: FaceTurn) -> None:
        super().__init__(turn)
        type(self).streams += 1

    def frames(self, one: TurnEvent) -> bytes:
        return b"data: %d\n\n%b" % (self.streams, super().frames(one))


class Endless(Lines):
    """Does not end at the end of a turn."""

    def frames(self, one: TurnEvent) -> bytes:
        made = super().frames(one)
        self.ended = False
        return made


class Late(Lines):
    """Keeps each frame back until the next event."""

    def __init__(self, turn: FaceTurn) -> None:
        super().__init__(turn)
        self._back = b""

    def frames(self, one: TurnEvent) -> bytes:
        self._back, made = super().frames(one), self._back
        return made


SHORT: Turn = [
    (1, MessageDelta(content="Hello")),
    (2, MessageDone(content="Hello")),
    (3, Done(session_id=SESSION, turn_id=TURN, usage=Usage(1, 1))),
]


async def test_a_projection_that_breaks_a_rule_is_caught() -> None:
    stored = StoredTurn(turn=SHORT)
    counting, endless, late = [Projected(made, lambda body: b'"done"' in body) for made in (Counting, Endless, Late)]
    with pytest.raises(AssertionError):
        await check_bytes(counting, stored, [])
    with pytest.raises(AssertionError, match="its stream has not"):
        await check_bytes(endless, stored, [])
    with pytest.raises(AssertionError):
        await check_end(late, stored)
    await check_bytes(PROJECTIONS["lines"], stored, [])
    await check_end(PROJECTIONS["lines"], stored)
