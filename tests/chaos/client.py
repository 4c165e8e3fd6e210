"""A client: requests that the engine may leave unanswered, and streams that are taken up again."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx

from bytebrew.testing import ADMIN
from tests.chaos.model import Chat, Keyed, Model
from tests.chaos.process import Process
from tests.disturbed.client import PASSING, Answer, Caller, Stretch

SILENCE = 40.0
"""Seconds after which an answer or the next piece of a stream counts as never coming; a stream's pings come at 15."""


class Client(Caller):
    """A caller with its own dice; `closing` says that no new acts are wanted."""

    def __init__(self, process: Process, model: Model, number: int) -> None:
        super().__init__(model.seed, f"client {number}")
        self.process, self.model, self.number = process, model, number
        self.marks = 0
        self.talks: set[asyncio.Task[None]] = set()
        self.own: list[str] = []
        self.secrets: dict[str, tuple[str, str]] = {}
        self.hook_secret = ""
        limits = httpx.Timeout(SILENCE, connect=10)
        self._http = httpx.AsyncClient(timeout=limits, trust_env=False, verify=False)

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    def mark(self) -> int:
        """A number that nobody else uses in this seed."""
        self.marks += 1
        return self.number * 1_000_000 + self.marks

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        token: str = ADMIN,
        refusals: bool = False,
    ) -> Answer | None:
        """The answer to a request once the engine serves; None where the engine went away before it was whole."""
        await self.process.up.wait()
        lines = {"Authorization": f"Bearer {token}", **(headers or {})}
        began, status = time.monotonic(), 0
        try:
            response = await self._http.request(
                method, f"{self.process.url}/api/v1{path}", json=body, content=content, headers=lines
            )
            status = response.status_code
        except httpx.ReadTimeout:
            self._silent(f"{method} {path} was not answered", began)
            return None
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            return None
        finally:
            self._note(method, path, status, lines.get("Idempotency-Key", ""))
        answer = Answer(response.status_code, response.headers, response.content)
        self._plausible(f"{method} {path}", answer.status, answer.code, refusals=refusals)
        return answer

    def _note(self, method: str, path: str, status: int, key: str) -> None:
        """Keeps what the audit must have, or may; a repeat under a key is no second act."""
        path = f"{method} /api/v1{path.partition('?')[0]}"
        if method == "GET" or path.endswith("/chat"):
            return
        if key and status not in (0, 503) and status < 400:
            if key in self.model.acted:
                return
            self.model.acted.add(key)
        self.model.requests.append((path, 0 if status == 503 else status))

    def _plausible(self, what: str, status: int, code: str, *, refusals: bool = False) -> None:
        if status == 500 and code == "internal_error":
            self.model.violation(f"{what} answered 500 internal_error")
        if status in (401, 403) and not refusals:
            self.model.violation(f"{what} refused the admin: {status} {code}")
        if status == 503 and code == "storage" and not self.model.faulty:
            self.model.violation(f"{what} answered 503 storage on a sound disk")

    def _silent(self, what: str, began: float) -> None:
        if self.process.disturbed < began:
            self.model.violation(f"{what} for {SILENCE:g} s")

    async def insist(self, method: str, path: str, body: Any = None, **more: Any) -> Answer | None:
        """The first answer that is none of a stopping or faulty engine, for as long as a minute."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            answer = await self.send(method, path, body, **more)
            if answer is not None and answer.status != 503:
                return answer
            await asyncio.sleep(0.2)
        return None

    async def keyed(self, path: str, body: Any, **more: Any) -> Answer | None:
        """`insist` for a POST under a new Idempotency-Key, which is kept to be repeated."""
        key = f"key-{self.mark()}"
        era = self.model.era
        answer = await self.insist("POST", path, body, headers={"Idempotency-Key": key}, **more)
        until = time.monotonic() + 90
        while answer is not None and answer.asks and time.monotonic() < until:  # the person answers, now and then
            await asyncio.sleep(0.3)
            answer = await self.insist("POST", path, body, headers={"Idempotency-Key": key}, **more)
        turn_id = answer.headers.get("x-turn-id", "") if answer else ""
        if answer is not None and (answer.status < 400 or turn_id) and answer.status != 202:
            self.model.keyed.append(Keyed("POST", path, body, key, era, answer.status, answer.content, turn_id))
        return answer

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
        """Reads a stream to the end of a turn, or `most` events of it; with `after` the events follow that number."""
        await self.process.up.wait()
        lines = {"Authorization": f"Bearer {ADMIN}", **(headers or {})}
        part, url = Stretch(session_id, after), f"{self.process.url}/api/v1{path}"
        try:
            async with self._http.stream(method, url, json=body, headers=lines) as response:
                part.status, part.headers = response.status_code, response.headers
                if part.status == 200:
                    await part.read(response.aiter_raw(), self.model, most=most, restarts=True)
                    if part.code:
                        self._plausible(f"the stream of {path}", 503, part.code)
                    if part.end == "error" and part.data["code"] == "internal_error":
                        self.model.violation(f"a turn of session {part.session_id} ended in internal_error")
                else:
                    part.code = Answer(part.status, part.headers, await response.aread()).code
                    self._plausible(f"{method} {path}", part.status, part.code)
        except httpx.ReadTimeout:
            self._silent(f"the stream of {path} was silent", part.moment)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
        return part

    async def turn(self, schema: str, body: dict[str, Any], key: str) -> None:
        """Chats over a stream and comes back until the turn has ended; without a key that may not be possible."""
        path, era, key_header = f"/schemas/{schema}/chat", self.model.era, {"Idempotency-Key": key} if key else {}
        chat: Chat | None = None
        session_id, last, last_id = body.get("session_id", ""), 0, ""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            leaves = self.dice.randint(1, 12) if self.dice.random() < 0.15 else 0
            if last and (not key or self.dice.random() < 0.6):
                events = f"/sessions/{session_id}/events"
                resume = {"Last-Event-ID": last_id}
                part = await self.stream("GET", events, headers=resume, session_id=session_id, after=last, most=leaves)
            else:
                part = await self.stream("POST", path, body, headers=key_header, most=leaves)
                if part.status == 200:
                    session_id = part.headers["x-session-id"]
                    chat = self._begun(chat, part.headers["x-turn-id"], session_id, schema)
                elif not key and part.status == 0:
                    return  # whether it began is unknown, and the message must not be sent twice
            if part.count:
                last, last_id = part.last, part.last_id
            if part.end == "done" and chat is not None:
                fine = part.data["turn_id"] == chat.turn_id or session_id in self.model.deleting
                self.model.check(fine, f"turn {chat.turn_id} ended in {part.data}")
                chat.done = part.data
            if part.end:
                if key and chat is not None and part.data.get("code") not in PASSING:
                    self.model.keyed.append(Keyed("POST", path, body, key, era, 200, b"", chat.turn_id))
                return
            if part.status not in (0, 200, 503):
                if chat is not None and key and part.code == "session_busy":
                    self.model.replaced.append((chat.turn_id, "found the session busy"))
                    return
                gone = part.status in (404, 410, 409)
                if chat is not None and not (gone and session_id in self.model.deleting):
                    self.model.violation(f"the turn {chat.turn_id} cannot be followed: {part.status} {part.code}")
                return
            if part.status == 200 and session_id in self.model.deleting:
                return
            if part.status == 200 and not part.count and not key:
                return
            await asyncio.sleep(0.1)

    def _begun(self, chat: Chat | None, turn_id: str, session_id: str, schema: str) -> Chat:
        if chat is not None and chat.turn_id == turn_id:
            return chat
        if chat is not None:
            self.model.replaced.append((chat.turn_id, turn_id))
        if session_id not in self.model.schema_of:
            self.model.schema_of[session_id] = schema
            self.model.sessions.append(session_id)
        made = self.model.chats[turn_id] = Chat(turn_id, session_id, self.name)
        return made

    def answered(self, answer: Answer, schema: str) -> None:
        """Notes the whole answer of a chat without a stream."""
        if turn_id := answer.headers.get("x-turn-id", ""):
            chat = self._begun(None, turn_id, answer.headers["x-session-id"], schema)
            if answer.status == 200:
                chat.answer = answer.json
