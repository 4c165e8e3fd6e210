"""What a turn costs through each face, beside one of the engine's own API."""

from collections.abc import Iterator
from pathlib import Path

from tests.bench.data import copied
from tests.bench.double import DELTAS
from tests.bench.figures import Heading, Line, Target
from tests.bench.load import NEW, Wire
from tests.bench.measures import ASKED, CLIENTS, Effort, Side, engine_wire, post, rates
from tests.bench.servers import running_engine

LEAST = 0.85
SAYS = {"role": "user", "content": ASKED}
PARTS = {"id": NEW, "role": "user", "parts": [{"type": "text", "text": ASKED}]}
RUN = {"threadId": NEW, "runId": NEW, "state": {}, "tools": [], "context": [], "forwardedProps": {}}
FACES: dict[str, tuple[str, object, bytes, bytes]] = {
    "Chat Completions": (
        "/v1/chat/completions",
        {"model": "burst", "stream": True, "messages": [SAYS]},
        b'"delta":{"content":" word',
        b"data: [DONE]",
    ),
    "Responses": (
        "/v1/responses",
        {"model": "burst", "stream": True, "input": ASKED},
        b"event: response.output_text.delta\n",
        b"event: response.completed\n",
    ),
    "AI SDK": ("/ai-sdk/burst/chat", {"id": NEW, "messages": [PARTS]}, b'"type":"text-delta"', b"data: [DONE]"),
    "AG-UI": ("/ag-ui/burst", {**RUN, "messages": [{"id": NEW, **SAYS}]}, b'"TEXT_MESSAGE_CONTENT"', b'"RUN_FINISHED"'),
}
"""A turn of a new session: path, body, how a delta and how the end looks."""


def measured(fresh: Path, effort: Effort) -> Iterator[object]:
    """The lines of the table, each of a face and of the engine's own stream in the same rounds."""
    yield Heading(f"Faces: {CLIENTS} clients, {DELTAS} deltas at once", "own API", "face")
    with running_engine(copied(fresh, "faces")) as engine:
        own = Side(engine, [engine_wire(engine, "burst")] * CLIENTS)
        for name, (path, body, delta, end) in FACES.items():
            wire = Wire(engine.port, post(path, body), delta, end)
            base, ours = rates([own, Side(engine, [wire] * CLIENTS)], effort)
            met = ours.per_second >= LEAST * base.per_second
            yield Line(f"{name}: turns/s", base.per_second, ours.per_second, Target(f"ratio >= {LEAST}", met))
            yield Line(f"{name}: CPU ms a turn", base.cpu_ms, ours.cpu_ms)
