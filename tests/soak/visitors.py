"""What clients do beside what those of the chaos do: tools and MCP servers, steering, knowledge, reading slowly."""

import asyncio
import json
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from tests.bench.data import FREQUENCY, WORDS
from tests.chaos.client import Client
from tests.chaos.seed import ACTS as CHAOS
from tests.disturbed.client import Answer, Stretch
from tests.disturbed.people import Question
from tests.soak.raw import GONE, Raw

OUTSIDE, BASE = "outside", "words"
"""The schema whose agent has what is outside of the engine, and the knowledge base."""
MCP_TOOLS = ("echo", "kinds", "slow", "fail", "structured", "die")
LEFT_SECONDS, MOST_LEFT = 120.0, 8
"""How long a question is left unanswered, and how many are at a time."""


async def outside(client: Client) -> None:
    """A chat whose model calls the HTTP tool and the MCP server, of which one may be away, hang or die."""
    dice = client.dice
    calls: list[Any] = []
    for _ in range(dice.randint(1, 3)):
        if dice.random() < 0.5:
            calls.append(["stock", {"sku": f"sku-{client.mark()}"}])
        else:
            name = dice.choices(MCP_TOOLS, (6, 3, 3, 2, 2, 1))[0]
            calls.append([name, {"who": {"name": f"n{client.mark()}"}} if name == "echo" else {}])
    message = json.dumps([["I look. ", *calls], ["That is ", 0.02, "all."]])
    await _talk(client, {"message": message}, OUTSIDE)


async def steered(client: Client) -> None:
    """A message into a turn that runs: both streams end, and one turn answers both."""
    session_id = client.uuid()
    pieces = [item for n in range(client.dice.randint(5, 20)) for item in (f"piece {n} ", 0.05)]
    script = json.dumps([[*pieces], ["and more ", 0.05, "to come"], ["end"]])
    first = asyncio.create_task(_talk(client, {"message": script, "session_id": session_id}, "parallel"))
    await asyncio.sleep(client.dice.uniform(0.02, 0.6))
    body = {"message": f"in Paris, please, {client.mark()}", "session_id": session_id, "on_busy": "steer"}
    part = await client.stream("POST", "/schemas/parallel/chat", body, headers={"Idempotency-Key": client.uuid()})
    client.model.check(part.status in (0, 200, 400, 409, 503), f"a message that steers was answered {part.status}")
    await first


async def _talk(client: Client, body: dict[str, Any], schema: str) -> None:
    await client.turn(schema, body, f"key-{client.mark()}")


async def search(client: Client) -> None:
    """A search of the knowledge base."""
    words = " ".join(client.dice.choices(WORDS, FREQUENCY, k=3))
    answer = await client.send("GET", f"/knowledge-bases/{BASE}/search?q={quote(words)}")
    _allow(client, answer, "a search", 200)


async def upload(client: Client) -> None:
    """A file for the knowledge base, or one of the client's own goes."""
    if client.dice.random() < 0.5:
        listed = await client.send("GET", f"/knowledge-bases/{BASE}/files")
        _allow(client, listed, "files", 200)
        own = f"c{client.number}-"
        mine = [
            one["id"]
            for one in (listed.json if listed and listed.status == 200 else ())
            if one["file_name"].startswith(own)
        ]
        if mine:
            gone = await client.send("DELETE", f"/knowledge-bases/{BASE}/files/{client.dice.choice(mine)}")
            _allow(client, gone, "a file's end", 204, 404, 409)
            return
    text = "\n\n".join(" ".join(client.dice.choices(WORDS, FREQUENCY, k=120)) for _ in range(10))
    await send_file(client, f"c{client.number}-{client.mark()}.md", text)


async def send_file(client: Client, name: str, text: str) -> None:
    """Uploads a file."""
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    content = f"{head}Content-Type: text/markdown\r\n\r\n{text}\r\n--cut--\r\n".encode()
    kind = {"Content-Type": "multipart/form-data; boundary=cut"}
    answer = await client.send("POST", f"/knowledge-bases/{BASE}/files", content=content, headers=kind)
    _allow(client, answer, "an upload", 201, 202)


def _allow(client: Client, answer: Answer | None, what: str, *statuses: int) -> None:
    if answer is not None and answer.status not in (*statuses, 503):
        client.model.violation(f"{what} was answered {answer.status} {answer.content[:200]!r}")


Act = Callable[[Client], Awaitable[None]]
ACTS: tuple[tuple[Act, int], ...] = (*CHAOS, (outside, 20), (steered, 4), (search, 12), (upload, 1))


class SlowClient(Client):
    """A client that reads a little now and then."""

    async def stream(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        session_id: str = "",
        after: int = 0,
        most: int = 0,
    ) -> Stretch:
        """As any client's, over a socket with a small buffer."""
        await self.process.up.wait()
        part, connection = Stretch(session_id, after), None
        try:
            connection = await Raw.open(self.process.url, self._pause)
            head = await connection.ask(method, path, body, headers)
            part.status, part.headers = head
            if part.status == 200:
                await part.read(connection.pieces(), self.model, most=most, restarts=True)
            else:
                part.code = Answer(part.status, part.headers, await connection.whole(head)).code
        except GONE:
            await asyncio.sleep(0.05)
        finally:
            if connection is not None:
                connection.close(at_once=True)
        if part.code:
            self._plausible(f"a slow {method} {path}", part.status, part.code)
        return part

    def _pause(self) -> tuple[float, int]:
        """Seconds to wait before a read, and the most that it takes."""
        return self.dice.choices(((0.2, 1), (0.1, 512), (0.03, 4096)), (1, 6, 12))[0]


async def slow(client: Client) -> None:
    """A long answer, read slowly."""
    pieces = ["x" * client.dice.randint(200, 2000) for _ in range(client.dice.randint(20, 60))]
    await _talk(client, {"message": json.dumps([pieces])}, "parallel")


class Leaving:
    """Which questions are left unanswered for a while."""

    def __init__(self, choose: Callable[[Question, random.Random], dict[str, Any]]) -> None:
        self._choose = choose
        self._left: dict[str, float] = {}
        self.count = 0
        self.ends = False
        """Whether all questions are to be answered now."""

    def __call__(self, question: Question, dice: random.Random) -> dict[str, Any] | None:
        """The answer, or None to leave it for now."""
        name, now = question["id"], time.monotonic()
        if name not in self._left and zlib.crc32(name.encode()) % 10 == 0 and len(self._left) < MOST_LEFT:
            self._left[name] = now + LEFT_SECONDS
            self.count += 1
        if not self.ends and now < self._left.get(name, 0.0):
            return None
        if self._left.get(name, 0.0) <= now:
            self._left = {one: until for one, until in self._left.items() if until > now}
        return self._choose(question, dice)
