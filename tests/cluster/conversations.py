"""What the clients do in their sessions, by dice: messages, queues, steers, cancels, repeats, deletions."""

import asyncio
import time

from tests.cluster.client import PATIENCE, Client
from tests.cluster.history import Sent
from tests.cluster.nodes import Nodes
from tests.cluster.scripts import script
from tests.disturbed.client import PASSING, Stretch

KEPT = 12
"""Ended messages that a client remembers to repeat."""


class Talker:
    """A client with a session at a time."""

    def __init__(self, client: Client, nodes: Nodes, others: list["Talker"]) -> None:
        self.client, self.nodes, self.others = client, nodes, others
        self.session_id = client.uuid()
        self.ended: list[Sent] = []
        self.begun = False
        self.secret = ""
        """The token that the client has made and not revoked, and its id."""
        self.token_id = ""

    def written(self, *, long: bool = False) -> Sent:
        """A new message with a script."""
        client = self.client
        mark = client.mark()
        message = f"play {mark} {script(client.dice, mark, pieces=40 if long else 12)}"
        return self._sent(mark, message)

    def _sent(self, mark: str, message: str) -> Sent:
        body = {"message": message, "session_id": self.session_id}
        sent = Sent(mark, self.session_id, body, f"key-{mark}", time.monotonic())
        self.client.history.sent[mark] = sent
        return sent

    async def say(self, sent: Sent) -> Sent:
        """Sends a message and comes back, to any node, until its stream has ended."""
        client, history = self.client, self.client.history
        path, last, until = f"/sessions/{sent.session_id}/events", 0, time.monotonic() + PATIENCE
        while time.monotonic() < until:
            leaves = client.dice.randint(1, 12) if client.dice.random() < 0.15 else 0
            if last and client.dice.random() < 0.6:
                resume = {"last-event-id": str(last)}
                part = await client.stream(
                    "GET", path, headers=resume, session_id=sent.session_id, after=last, most=leaves
                )
            else:
                key = {"idempotency-key": sent.key}
                part = await client.stream("POST", "/schemas/chat/chat", sent.body, headers=key, most=leaves)
                if part.status == 200:
                    self._begun(sent, part.headers["x-turn-id"])
            last = part.last or last
            if part.end:
                sent.end, sent.status = part.end, part.data.get("status", part.data.get("code", ""))
                self.ended = [*self.ended, sent][-KEPT:]
                return sent
            if sent.session_id in history.deleting and part.status in (0, 200, 404, 409, 410):
                return sent
            if part.status == 429:
                history.acts["queue full"] += 1
            elif _refused(sent, part):
                return sent
            elif part.status not in (0, 200, 502, 503):
                history.violation(f"message {sent.mark} was refused: {part.status} {part.code}; turn {sent.turn_id!r}")
                return sent
            await asyncio.sleep(client.dice.uniform(0.05, 0.4))
        if not history.violations:
            history.violation(f"message {sent.mark} of session {sent.session_id} had no end for {PATIENCE:g} s")
        return sent

    def _begun(self, sent: Sent, turn_id: str) -> None:
        if sent.turn_id not in ("", turn_id):
            self.client.history.replaced.append((sent.turn_id, turn_id))
        sent.turn_id, self.begun = turn_id, True

    async def talk(self) -> None:
        """One message, which several requests with its key send at the same time now and then."""
        sent = self.written()
        count = 2 if self.client.dice.random() < 0.15 else 1
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self.say(sent))

    async def crowd(self) -> None:
        """Some messages at once, which are answered one after the other."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.client.dice.randint(2, 4)):
                sent = self.written()
                sent.body["on_busy"] = self.client.dice.choices(("queue", "interrupt", "reject"), (6, 2, 1))[0]
                group.create_task(self.say(sent))
                await asyncio.sleep(self.client.dice.uniform(0, 0.5))

    async def steer(self) -> None:
        """A message into the turn that runs."""
        async with asyncio.TaskGroup() as group:
            first = self.written(long=True)
            group.create_task(self.say(first))
            while not first.turn_id and not first.end:
                await asyncio.sleep(0.05)
            for _ in range(self.client.dice.randint(1, 2)):
                await asyncio.sleep(self.client.dice.uniform(0, 1.0))
                mark = self.client.mark()
                sent = self._sent(mark, f"steer {mark}")
                sent.body["on_busy"] = "steer"
                group.create_task(self.say(sent))

    async def cancel(self) -> None:
        """A turn is cancelled through any node, and its stream ends soon."""
        client, history = self.client, self.client.history
        async with asyncio.TaskGroup() as group:
            sent = self.written(long=True)
            talk = group.create_task(self.say(sent))
            while not sent.turn_id and not talk.done():
                await asyncio.sleep(0.02)
            await asyncio.sleep(client.dice.uniform(0, 1.0))
            if talk.done():
                return
            began = time.monotonic()
            answer = await client.send("POST", f"/sessions/{self.session_id}/cancel")
            if answer is not None and answer.status == 204 and not history.disturbed(began):
                await asyncio.wait([talk], timeout=5)
                history.check(talk.done() or history.disturbed(began), f"turn {sent.turn_id} goes on after its cancel")
                history.waits["cancel"].append(time.monotonic() - began)

    async def unqueue(self) -> None:
        """A message that waits is taken from the queue."""
        client = self.client
        async with asyncio.TaskGroup() as group:
            first, second = self.written(long=True), self.written()
            group.create_task(self.say(first))
            while not first.turn_id and not first.end:
                await asyncio.sleep(0.02)
            talk = group.create_task(self.say(second))
            while not second.turn_id and not talk.done():
                await asyncio.sleep(0.02)
            if not second.turn_id or talk.done():
                return
            second.removed = True
            answer = await client.send("DELETE", f"/sessions/{self.session_id}/queue/{second.turn_id}")
            if answer is not None and answer.status not in (204, 404, 409, 503):
                client.history.violation(f"the queue answered {answer.status} {answer.content[:200]!r}")

    async def repeat(self) -> None:
        """A message that was answered before, under its key: the same turn, the same bytes."""
        client, history = self.client, self.client.history
        if not self.ended:
            return
        sent = client.dice.choice(self.ended)
        if sent.session_id in history.deleting or sent.status in PASSING or sent.removed:
            return
        part = await client.stream("POST", "/schemas/chat/chat", sent.body, headers={"idempotency-key": sent.key})
        if part.status == 200:
            again = part.headers["x-turn-id"]
            history.check(again == sent.turn_id, f"key {sent.key} was turn {sent.turn_id}, then {again}")
            ends = part.data.get("status", part.data.get("code", ""))
            history.check(
                not part.end or (part.end, ends) == (sent.end, sent.status),
                f"key {sent.key} ended as {sent.end} {sent.status}, then as {part.end} {ends}",
            )
        elif part.status not in (0, 502, 503):
            history.violation(f"key {sent.key} was turn {sent.turn_id}, then {part.status} {part.code}")

    async def follow(self) -> None:
        """Reads another session's events from a random number on."""
        client, history = self.client, self.client.history
        other = client.dice.choice(self.others)
        if not (seen := sorted(history.frames[other.session_id])):
            return
        session_id, after = other.session_id, client.dice.choice(seen) - 1
        headers = {"last-event-id": str(after)} if after else {}
        path = f"/sessions/{session_id}/events"
        try:
            async with asyncio.timeout(3):
                part = await client.stream(
                    "GET", path, headers=headers, session_id=session_id, after=after, last=seen[-1]
                )
        except TimeoutError:
            return
        if part.status not in (0, 200, 502, 503) and session_id not in history.deleting:
            history.violation(f"{path} answered {part.status} {part.code}")

    async def delete(self) -> None:
        """Deletes the session, under a turn perhaps; afterwards it is gone at every node."""
        client, history, session_id = self.client, self.client.history, self.session_id
        if not self.begun:
            return
        async with asyncio.TaskGroup() as group:
            if client.dice.random() < 0.4:
                sent = self.written()
                group.create_task(self.say(sent))
                while not sent.turn_id and not sent.end:
                    await asyncio.sleep(0.05)
            history.deleting.add(session_id)
            self.session_id, self.begun, self.ended = client.uuid(), False, []
            await client.insist("DELETE", f"/sessions/{session_id}")
        for node in self.nodes:
            if node.alive:
                answer = await client.send("GET", f"/sessions/{session_id}", port=node.port)
                fine = answer is None or answer.status in (404, 503)
                history.check(fine, f"the deleted session {session_id} answered {answer and answer.status}")


def _refused(sent: Sent, part: Stretch) -> bool:
    """Whether a message was not taken as its client wanted, or was taken from the queue."""
    busy = part.status == 409 and part.code == "session_busy" and not sent.turn_id
    return busy or (part.status in (404, 410) and sent.removed)
