"""The peers: how each is run and asked, and what it promises."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from tests.bench.double import DELTAS
from tests.bench.load import NEW, Wire
from tests.bench.measures import ASKED, post

CACHE = Path(".cache/bench-peers")
"""Where setup.sh makes their environments."""
OWN_ROUTE = {"message": ASKED, "session_id": NEW}
SAYS = {"role": "user", "content": ASKED}


class Peer(NamedTuple):
    """A peer: its environment, its module, a turn of a new session, and what is there after the power fails."""

    name: str
    environment: str
    module: str
    wire: Callable[[int], Wire]
    promise: str

    @property
    def python(self) -> Path:
        """The Python that it runs on."""
        return (CACHE / self.environment / "bin" / "python").absolute()

    @property
    def is_set_up(self) -> bool:
        """Whether setup.sh has come to its end with it."""
        return (CACHE / self.environment / "pins").exists()


def form(path: str, fields: dict[str, str]) -> bytes:
    """The bytes of a form."""
    raw = urlencode(fields).encode()
    kind = "application/x-www-form-urlencoded"
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


def _agno(port: int) -> Wire:
    fields = {"message": ASKED, "stream": "true", "session_id": NEW}
    request = form("/agents/bench/runs", fields)
    # its last event has the whole text once more
    return Wire(port, request, b'"content":" word', b"event: RunCompleted\n", DELTAS + 1)


def _own_route(port: int) -> Wire:
    return Wire(port, post("/chat", OWN_ROUTE, ""), b'"content": " word', b"data: [DONE]")


def _langgraph_dev(port: int) -> Wire:
    body = {
        "assistant_id": "bench",
        "input": {"messages": [SAYS]},
        "stream_mode": ["messages-tuple"],
        "if_not_exists": "create",
    }
    return Wire(port, post(f"/threads/{NEW}/runs/stream", body, ""), b'"content":" word', b"event: messages")


PEERS = (
    Peer(
        "Agno AgentOS",
        "agno",
        "tests.bench.peers.agno_server",
        _agno,
        "the run in SQLite once it has ended; background runs keep their events in memory or Redis, to resume",
    ),
    Peer(
        "OpenAI Agents SDK",
        "openai_agents",
        "tests.bench.peers.openai_agents_server",
        _own_route,
        "behind FastAPI; messages in SQLite after each model call, nothing of a stream",
    ),
    Peer(
        "LangGraph",
        "langgraph",
        "tests.bench.peers.langgraph_server",
        _own_route,
        "behind FastAPI; a checkpoint in SQLite after each step, nothing of a stream",
    ),
    Peer(
        "LangGraph's dev server",
        "langgraph_dev",
        "tests.bench.peers.langgraph_dev_server",
        _langgraph_dev,
        "`langgraph dev`, without a licence: state in memory, in a file now and then; streams in memory on demand",
    ),
)
