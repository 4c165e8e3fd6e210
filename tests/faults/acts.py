"""What clients do to an engine while one operation fails: each act asks until it has its answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import httpx

from bytebrew.base.formats import new_uuid
from tests.faults.invariants import Act, Answer, Seen

SECONDS = 15.0
"""How long an act may take, whatever fails once."""
OPEN = {"chat_enabled": True, "client_tools": True}
CHILD = [["I ", 0.001, ["look", {"n": 1}]], ["did"]]
STEPS: list[list[Any]] = [
    ["one ", 0.002, "two ", 0.002, ["look", {"n": 2}], ["pay", {"amount": 1}]],
    ["three ", ["sign", {"name": "anna"}], ["spawn_helper", {"message": json.dumps(CHILD)}]],
    ["four ", 0.002, "five ", 0.002, "six."],
]
"""A turn with tools that may run twice and that may not, a question, and an agent that is spawned."""


CLIENT_TOOLS = [{"name": "ring", "description": "Rings", "input_schema": {"type": "object"}}]
CLIENT_STEPS: list[list[Any]] = [["one ", ["ring", {"n": 1}], ["ring", {"n": 2}]], [["ring", {"n": 3}]], [None]]
"""A turn whose client runs two tools at once and then another."""


class World(Protocol):
    """An engine that is started again whenever it has ended; `starts` counts how often it was."""

    http: httpx.AsyncClient
    seen: Seen
    callback_url: str
    starts: int

    async def back(self, starts: int) -> None:
        """Returns once it serves again that had been started so often when a connection broke."""


class Hangs(Exception):
    """No answer came in time."""


class Refused(Exception):
    """An answer that no fault excuses, which is among the problems."""


class Client:
    """Asks until it is answered, and keeps all that it has seen; `problems` are answers that no fault excuses.

    It `approves` what it is asked about.
    """

    def __init__(self, world: World, *, approves: bool = True) -> None:
        self.world = world
        self.seen = world.seen
        self.approves = approves
        self.problems: list[str] = []
        self.sessions: list[str] = []
        self._approved: set[str] = set()

    async def act(
        self, method: str, path: str, body: Any = None, *, key: str = "", refusals: Sequence[int] = (), **given: Any
    ) -> httpx.Response:
        """One public act: again while the answer is a 503; `refusals` are the other statuses that it may have."""
        headers, url = {"Idempotency-Key": key} if key else {}, f"/api/v1/{path}"
        unknown = False
        while True:
            starts = self.world.starts
            try:
                answer = await self.world.http.request(method, url, json=body, headers=headers, **given)
            except httpx.TimeoutException as error:
                raise Hangs(f"{method} {path}") from error
            except httpx.TransportError:
                if unknown := method != "GET":
                    self.seen.acts.append(Act(f"{method} {url}", 0))
                await self.world.back(starts)
                continue
            if key:
                self.seen.answers[key].append(Answer(answer.status_code, answer.content))
            if method != "GET":
                self.seen.acts.append(Act(f"{method} {url}", answer.status_code))
            if answer.status_code != 503:
                break
            await asyncio.sleep(0.05)
        if answer.status_code >= 400 and answer.status_code not in ((404, *refusals) if unknown else refusals):
            self.problems.append(f"{method} {path} answered {answer.status_code}: {answer.text}")
            raise Refused
        return answer

    async def create(self, path: str, body: Any) -> dict[str, Any]:
        """Something new, twice under one key; the first answer."""
        key = new_uuid()
        made: dict[str, Any] = (await self.act("POST", path, body, key=key)).json()
        acts = len(self.seen.acts)
        await self.act("POST", path, body, key=key)
        del self.seen.acts[acts:]  # a repeat is no act
        return made

    async def chat(self, schema: str, steps: list[Any], session_id: str = "", **body: Any) -> None:
        """A message under a key, until its turn has ended, and once more."""
        key, session_id = new_uuid(), session_id or new_uuid()
        self.sessions.append(session_id)
        given = {"message": json.dumps(steps), "session_id": session_id, **body}
        while not await self._talk(f"schemas/{schema}/chat", given, key):
            await asyncio.sleep(0.05)
        await self._talk(f"schemas/{schema}/chat", given, key)

    async def edit(self, session_id: str, turn_id: str, steps: list[Any]) -> None:
        """Another message in place of a turn's, under a key, until its turn has ended, and once more."""
        key, body = new_uuid(), {"turn_id": turn_id, "message": json.dumps(steps)}
        while not await self._talk(f"sessions/{session_id}/edit", body, key):
            await asyncio.sleep(0.05)
        await self._talk(f"sessions/{session_id}/edit", body, key)

    async def _talk(self, path: str, body: dict[str, Any], key: str) -> bool:
        """One request for a turn's stream; whether the turn's last event came."""
        url, headers = f"/api/v1/{path}", {"Idempotency-Key": key}
        frames: list[bytes] = []
        starts = self.world.starts
        try:
            async with self.world.http.stream("POST", url, json=body, headers=headers) as response:
                if response.status_code == 200:
                    await self._read(response, response.headers["x-session-id"], frames)
                text = (await response.aread()).decode() if response.status_code != 200 else ""
        except httpx.TimeoutException as error:
            raise Hangs(f"chat {key}") from error
        except httpx.TransportError:
            await self.world.back(starts)
            return False
        if text:
            self.seen.answers[key].append(Answer(response.status_code, text.encode()))
            if response.status_code != 503:
                self.problems.append(f"chat {key} answered {response.status_code}: {text}")
                raise Refused
            return False
        turn_id = response.headers["x-turn-id"]
        numbered = [one for one in frames if one.startswith(b"id: ")]
        self.seen.answers[key].append(Answer(200, b"".join(numbered), turn_id))
        return bool(numbered) and numbered[-1].split(b"\n")[1] in (b"event: done", b"event: error")

    async def _read(self, response: httpx.Response, session_id: str, frames: list[bytes]) -> None:
        rest = b""
        async for chunk in response.aiter_raw():
            *whole, rest = (rest + chunk).split(b"\n\n")
            for one in whole:
                frames.append(one + b"\n\n")
                self.seen.frame(session_id, frames[-1])
                if self.approves and b"\nevent: confirmation\n" in one:
                    await self._approve(session_id, json.loads(one.partition(b"\ndata: ")[2]))
                if b"\nevent: client_tool_call\n" in one:
                    await self._ring(session_id, json.loads(one.partition(b"\ndata: ")[2]))
                if b"\nevent: error\n" in one and b'"internal_error"' in one:
                    self.problems.append(f"session {session_id}: {one.decode()}")

    async def _approve(self, session_id: str, question: dict[str, Any]) -> None:
        if question["confirmation_id"] not in self._approved:  # a call may be asked about again after a start
            self._approved.add(question["confirmation_id"])
            known = "approve" if question["kind"] == "confirm" else "mark_done"
            body = {"confirmation_id": question["confirmation_id"], "answers": [known]}
            await self.act("POST", f"sessions/{session_id}/respond", body, refusals=(404, 409, 410))

    async def _ring(self, session_id: str, call: dict[str, Any]) -> None:
        if (key := session_id + call["call_id"]) not in self._approved:  # a replayed stream shows the call again
            self._approved.add(key)
            body = {"call_id": call["call_id"], "result": {"rang": call["input"]["n"]}}
            await self.act("POST", f"sessions/{session_id}/respond", body, refusals=(404, 410))

    async def approve_all(self) -> None:
        """Answers all questions that wait."""
        for question in (await self.act("GET", "approvals")).json()["data"]:
            await self._approve(question["session_id"], {"confirmation_id": question["id"], "kind": question["kind"]})


async def configure(client: Client) -> None:
    """A schema `fault` whose agent has the ledger's tools and may spawn `helper`, and a place for tasks."""
    tools = ["look", "pay", "sign"]
    agent = {"name": "fault", "model": "steps", "tools": tools, "can_spawn": ["helper"], "tool_execution": "parallel"}
    await client.create("models", {"name": "steps", "type": "steps", "model_name": "steps"})
    await client.create("agents", {"name": "helper", "model": "steps", "tools": tools})
    await client.create("agents", agent)
    await client.create("schemas", {"name": "fault", "entry_agent": "fault", **OPEN})
    await client.create("agents", {"name": "long", "model": "steps", "max_context_size": 1000, "summary_keep": 1})
    await client.create("schemas", {"name": "long", "entry_agent": "long", "chat_enabled": True})


async def turn(client: Client, n: int) -> None:
    """A turn with all that a turn may have, and its repeat."""
    await client.chat("fault", STEPS, subagents=n % 2 == 1)


async def client_tool(client: Client, n: int) -> None:
    """A turn whose client runs tools: each is called once, and the model reads what the client sent."""
    session_id = new_uuid()
    await client.chat("fault", CLIENT_STEPS, session_id, client_tools=CLIENT_TOOLS)
    page = (await client.act("GET", f"sessions/{session_id}/events", params={"follow": "false"})).json()["events"]
    if page[-1]["event"] != "done":
        return  # a fault of the disk may end any turn
    called = [one["data"] for one in page if one["event"] == "client_tool_call"]
    results = {one["data"]["call_id"]: one["data"]["output"] for one in page if one["event"] == "tool_result"}
    sent = {call["call_id"]: f'{{"rang":{call["input"]["n"]}}}' for call in called}
    of_last = [call["call_id"] for call in called if call["turn_id"] == page[-1]["data"]["turn_id"]]
    wrong = [call_id for call_id in results if results[call_id] != sent[call_id]]
    if len(sent) != len(called) or len(of_last) != 3 or wrong or not results.keys() >= {*of_last}:
        client.problems.append(f"session {session_id} called {[*sent]}, last {of_last}, and has {results}")


async def busy(client: Client, n: int) -> None:
    """Two messages in one session, the first of which is cancelled, and one beside them."""
    session_id = new_uuid()
    first = asyncio.create_task(client.chat("fault", [["one ", 0.005] * 8], session_id))
    beside = asyncio.create_task(client.chat("fault", [["a ", 0.003] * 5]))
    tasks = [first, beside]
    try:
        while not client.seen.frames[session_id] and not first.done():
            await asyncio.sleep(0.002)
        tasks.append(asyncio.create_task(client.chat("fault", [["two"]], session_id)))
        await client.act("POST", f"sessions/{session_id}/cancel")
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def work(client: Client, n: int) -> None:
    """A task to its end."""
    body = {"title": json.dumps([["working ", ["look", {"n": 3}]], ["done"]]), "agent": "fault", "schema": "fault"}
    made = await client.create("tasks", body)
    status = made["status"]
    while status in ("pending", "approved", "in_progress"):
        await asyncio.sleep(0.02)
        status = (await client.act("GET", f"tasks/{made['id']}")).json()["status"]
    if status not in ("completed", "failed"):
        client.problems.append(f"task {made['id']} is {status}")


async def callback(client: Client, n: int) -> None:
    """A turn that fails, a question and a task, each of which a callback reports."""
    if not (await client.act("GET", "callbacks")).json():
        await client.create("agents", {"name": "short", "model": "steps", "tools": ["look"], "max_steps": 1})
        await client.create("schemas", {"name": "short", "entry_agent": "short", "chat_enabled": True})
        events = ["turn.failed", "task.ended", "approval.waiting"]
        await client.create("callbacks", {"name": "ops", "url": client.world.callback_url, "events": events})
    await client.chat("short", [["one ", ["look", {"n": 5}]], ["never"]])
    await client.chat("fault", [["one ", ["sign", {"name": "otto"}]], ["two"]])
    await work(client, n)


async def configuration(client: Client, n: int) -> None:
    """Everything that an operator creates, changes and deletes, one after the other."""
    name = f"n{new_uuid()}"
    await client.create("models", {"name": name, "type": "steps", "model_name": "steps"})
    await client.act("PUT", f"models/{name}", {"model_name": "other"})
    await client.create("agents", {"name": name, "model": name})
    await client.act("PUT", f"agents/{name}", {"description": "other"})
    await client.create("schemas", {"name": name, "entry_agent": name})
    await client.act("PUT", f"schemas/{name}", {"chat_enabled": True})
    token = await client.create("auth/tokens", {"name": name, "scopes": ["chat"]})
    await client.act("DELETE", f"auth/tokens/{token['id']}")
    await client.act("PUT", "settings/retention.audit", {"value": n + 1})
    await client.act("DELETE", "settings/retention.audit")
    text = f"agents:\n  - name: {name}\n    description: imported\n"
    await client.act("POST", "config/import", content=text)
    await client.act("DELETE", f"schemas/{name}")
    await client.act("DELETE", f"agents/{name}")
    await client.act("DELETE", f"models/{name}")


async def versions(client: Client, n: int) -> None:
    """An agent that is changed, rolled back, deleted and rolled back again: each of these is one version."""
    name = f"v{new_uuid()}"
    await client.create("agents", {"name": name, "system": "one"})
    await client.act("PUT", f"agents/{name}", {"system": "two"})
    await client.act("POST", f"agents/{name}/rollback", {"version": 1})
    await client.act("DELETE", f"agents/{name}")
    await client.act("POST", f"agents/{name}/rollback", {"version": 2})
    made = (await client.act("GET", f"agents/{name}/versions")).json()["data"]
    if [one["action"] for one in made] != ["rollback", "delete", "rollback", "update", "create"]:
        client.problems.append(f"agent {name} has the versions {made}")
    agent = (await client.act("GET", f"agents/{name}")).json()
    if agent["system"] != "two":
        client.problems.append(f"agent {name} is {agent['system']} after its rollback")
    client.seen.imported.add(name)  # a rollback brings it back, which is no act that creates it
    if not (verified := (await client.act("GET", "audit/verify")).json())["intact"]:
        client.problems.append(f"the audit is broken: {verified['broken']}")


async def deletion(client: Client, n: int) -> None:
    """A conversation that gets a title and is deleted."""
    session_id = new_uuid()
    await client.chat("fault", [["short ", ["look", {"n": 4}]], ["lived"]], session_id)
    await client.act("PATCH", f"sessions/{session_id}", {"title": "gone soon"})
    client.seen.deleted.add(session_id)
    await client.act("DELETE", f"sessions/{session_id}")


async def long(client: Client, n: int) -> None:
    """A conversation that outgrows its model's context, twice: each turn is in the summary once, or in the request."""
    session_id = new_uuid()
    for turn in range(6):
        await client.chat("long", [[f"mark-{turn} " + "x" * 600]], session_id)
    detail = (await client.act("GET", f"sessions/{session_id}")).json()
    summary = detail["summary"] or {"content": "", "through": 0}
    covered = [one["content"] for one in detail["messages"] if int(one["id"]) <= summary["through"]]
    marks = [mark for turn in range(6) if any((mark := f"mark-{turn}") in one for one in covered)]
    if summary["content"].split() != marks:
        client.problems.append(f"session {session_id}: its summary says {summary['content']}, it is of {marks}")
    if not marks:
        client.problems.append(f"session {session_id}: nothing was summarised of {len(detail['messages'])} messages")


async def steer(client: Client, n: int) -> None:
    """A message for the turn that runs, which is answered once, by that turn or by one of its own."""
    session_id = new_uuid()
    steps = [["one ", 0.005, "two ", ["look", {"n": 5}]], ["three ", 0.005, "four"]]
    first = asyncio.create_task(client.chat("fault", steps, session_id))
    try:
        while not client.seen.frames[session_id] and not first.done():
            await asyncio.sleep(0.002)
        await client.chat("fault", [["five ", ["look", {"n": 6}]], ["six"]], session_id, on_busy="steer")
        await first
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    said = (await client.act("GET", f"sessions/{session_id}/messages")).json()
    asked = [one["content"] for one in said if one["role"] == "user"]
    events = (await client.act("GET", f"sessions/{session_id}/events?follow=false")).json()["data"]
    if len(asked) != 2 and not any(one["event"] == "error" for one in events):  # a 503 is sent again
        client.problems.append(f"session {session_id} has the messages {asked}")


async def fork(client: Client, n: int) -> None:
    """A fork and an edited message, once each, which outlive the session that they come from."""
    session_id = new_uuid()
    await client.chat("fault", [["one ", ["look", {"n": 7}]], ["two"]], session_id)
    made = await client.create(f"sessions/{session_id}/fork", {})
    history = [(await client.act("GET", f"sessions/{one}/messages")).json() for one in (session_id, made["id"])]
    url = "sessions/{}/events?follow=false"
    journals = [(await client.act("GET", url.format(one))).json()["data"] for one in (session_id, made["id"])]
    await client.edit(session_id, journals[0][-1]["data"]["turn_id"], [["three"]])
    forks = (await client.act("GET", f"sessions/{session_id}/forks")).json()["data"]
    whole = [one["forked_from"] for one in forks].count(made["forked_from"])
    edited = [one["status"] for one in forks if one["forked_from"] != made["forked_from"]]
    if whole != 1 or edited.count("completed") > 1:  # an edit whose turn fails with a 503 is sent again
        client.problems.append(f"session {session_id} has the forks {forks}")
    client.seen.deleted.add(session_id)
    await client.act("DELETE", f"sessions/{session_id}")
    await client.chat("fault", [["four"]], made["id"])
    history.append((await client.act("GET", f"sessions/{made['id']}/messages")).json()[: len(history[0])])
    journals.append((await client.act("GET", url.format(made["id"]))).json()["data"][: len(journals[0])])
    if not (history[0] == history[1] == history[2] and journals[0] == journals[1] == journals[2]):
        client.problems.append(f"fork {made['id']} of {session_id} has another history: {history}, {journals}")


async def public(client: Client, n: int) -> None:
    """A turn of a token with the public view, which an admin follows too: the same numbers, and nothing hidden."""
    made = await client.create("auth/tokens", {"name": new_uuid(), "scopes": ["chat"], "view": "public"})
    session_id, headers = new_uuid(), {"Authorization": f"Bearer {made['token']}", "Idempotency-Key": new_uuid()}
    client.sessions.append(session_id)
    shown: dict[int, bytes] = {}
    admin = asyncio.create_task(_follow(client, session_id))
    try:
        while not await _show(client, {"message": json.dumps(STEPS), "session_id": session_id}, headers, shown):
            await asyncio.sleep(0.05)
    finally:
        admin.cancel()
        await asyncio.wait([admin])
    page = (await client.act("GET", f"sessions/{session_id}/events", params={"follow": "false"})).json()["events"]
    seen_of = ("message_delta", "message_restart", "message", "confirmation", "error", "done")
    whole = [one for one in page if one["event"] in seen_of and one["id"] <= max(shown)]
    numbers = [one["id"] for one in whole if one["event"] == "confirmation" or "agent" not in one["data"]]
    hidden = [
        word for word in (b"tool", b"input", b"saw", b"paid", b"helper", b"usage") if word in b"".join(shown.values())
    ]
    # the end of a turn that a full disk failed may be in no answer: the key then begins another turn
    first = max((one["id"] for one in whole[:-1] if one["event"] == "error"), default=0)
    of_turn = [number for number in sorted(shown) if number > first]
    if not {*numbers}.issuperset(shown) or of_turn != [number for number in numbers if number > first] or hidden:
        client.problems.append(f"session {session_id}: the public saw {sorted(shown)} of {numbers}, and {hidden}")
    await client.act("DELETE", f"auth/tokens/{made['id']}")


async def _follow(client: Client, session_id: str) -> None:
    """Follows a session as an admin, who approves, until it is cancelled."""
    frames: list[bytes] = []
    while True:
        starts = client.world.starts
        try:
            url, params = f"/api/v1/sessions/{session_id}/events", {"after": 0}
            async with client.world.http.stream("GET", url, params=params) as response:
                if response.status_code == 200:
                    await client._read(response, session_id, frames)
        except httpx.TransportError:
            await client.world.back(starts)
        await asyncio.sleep(0.02)


async def _show(client: Client, body: dict[str, Any], headers: dict[str, str], shown: dict[int, bytes]) -> bool:
    """Adds what one request shows of the turn, by the numbers of the events; whether its last event came."""
    starts, rest, last = client.world.starts, b"", {"Last-Event-ID": str(max(shown))} if shown else {}
    try:
        async with client.world.http.stream(
            "POST", "/api/v1/schemas/fault/chat", json=body, headers=headers | last
        ) as response:
            if response.status_code not in (200, 503):
                client.problems.append(f"chat answered {response.status_code}: {(await response.aread()).decode()}")
                raise Refused
            async for chunk in response.aiter_raw():
                *parts, rest = (rest + chunk).split(b"\n\n")
                for part in parts:
                    if part.startswith(b"id: "):
                        number = int(part[4 : part.index(b"\n")])
                        if shown.setdefault(number, part) != part:
                            client.problems.append(
                                f"the public saw event {number} as {shown[number]!r} and as {part!r}"
                            )
    except httpx.TimeoutException as error:
        raise Hangs("public chat") from error
    except httpx.TransportError:
        await client.world.back(starts)
        return False
    return bool(shown) and shown[max(shown)].split(b"\n")[1] in (b"event: done", b"event: error")


async def budget(client: Client, n: int) -> None:
    """Turns that race for a budget of their agent: it holds, and nothing stays reserved once they have ended."""
    name, cap = f"n{new_uuid()}", 6000
    agent = {"name": name, "model": "steps", "tools": ["look"], "max_tokens": 300}
    await client.create("agents", agent)
    await client.create("schemas", {"name": name, "entry_agent": name, "chat_enabled": True})
    limits = {"per": "agent", "only": name, "tokens": cap, "window": "month"}
    await client.create("budgets", {"name": name, **limits})
    steps = json.dumps([["one ", 0.003, ["look", {"n": 5}]], ["two ", 0.003]])

    async def race() -> None:
        session_id = new_uuid()
        client.sessions.append(session_id)
        body = {"message": steps, "session_id": session_id, "stream": False}
        await client.act("POST", f"schemas/{name}/chat", body, key=new_uuid(), refusals=(402,))

    await asyncio.gather(*(race() for _ in range(6)))
    acts = client.seen.acts
    acts[:] = [one for one in acts if not one.resource.endswith("/chat")]  # turns are in no audit
    while (found := (await client.act("GET", f"budgets/{name}")).json())["reserved"]:
        await asyncio.sleep(0.05)
    if found["over"] or not found["used"]:
        client.problems.append(f"budget {name} has used {found['used']} of {cap}")
    await client.act("DELETE", f"schemas/{name}")


NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def structured(client: Client, n: int) -> None:
    """A structured answer that is repaired, behind a tool's step: its value is in the one message, the rest is not."""
    session_id = new_uuid()
    steps = [["look ", ["look", {"n": 5}]], ['{"n": ', 0.002, '"x"}'], ['{"n": ', 0.002, "1}"]]
    await client.chat("fault", steps, session_id, response_format={"type": "json_schema", "schema": NUMBER})
    frames = [one.decode() for _, one in sorted(client.seen.frames[session_id].items())]
    answers = [json.loads(one.partition("\ndata: ")[2]) for one in frames if "\nevent: message\n" in one]
    if [one for one in answers if (one["content"], one["data"]) != ('{"n": 1}', {"n": 1})]:
        client.problems.append(f"session {session_id}: its answers are {answers}")
    stored = (await client.act("GET", f"sessions/{session_id}/messages")).json()
    turns = sum(one["role"] == "user" for one in stored)  # a turn that failed with a 503 is followed by another
    invalid = [one for one in stored if one.get("broken_off") == "invalid"]
    if len(invalid) > turns or (turns == 1 and answers and len(invalid) != 1):
        client.problems.append(f"session {session_id}: {len(invalid)} invalid answers are stored of {turns} turns")


async def forget(client: Client, n: int) -> None:
    """A person talks, has a task, and is forgotten; at the end nothing is stored of the person."""
    sub, session_id = f"person{new_uuid()}", new_uuid()
    await client.chat("fault", [[f"{sub} said ", ["look", {"n": 5}]], ["done"]], session_id, user_sub=sub)
    client.seen.deleted.add(session_id)
    status = ""
    while status != "done":
        answer = (await client.act("DELETE", f"users/{sub}")).json()
        status, person = answer["status"], answer["person"]
    named, masked = f"DELETE /api/v1/users/{sub}", f"DELETE /api/v1/users/{person}"
    acts = client.seen.acts
    acts[:] = [Act(masked if act.resource == named else act.resource, act.status) for act in acts]
    client.seen.forgotten.add(sub)
    data = (await client.act("GET", f"users/{sub}/export")).json()["data"]
    if left := {kind: rows for kind, rows in data.items() if rows}:
        client.problems.append(f"of {sub} there is {left}")


async def replay(client: Client, n: int) -> None:
    """A session is replayed to the end of the report, and stays as it is."""
    session_id = new_uuid()
    await client.chat("fault", [["one ", ["look", {"n": 6}]], ["two"]], session_id)
    before = (await client.act("GET", f"sessions/{session_id}")).json()
    report = await client.create("replays", {"sessions": [session_id], "agent": "fault"})
    while report["status"] == "running":
        await asyncio.sleep(0.02)
        report = (await client.act("GET", f"replays/{report['id']}")).json()
    diverging = [one for one in report["reports"] if one["diverges"] and not one["recorded_error"]]
    if report["done"] != report["turns"] or diverging:  # a turn that failed with a 503 is followed by another
        client.problems.append(f"the replay reports {report}")
    if (await client.act("GET", f"sessions/{session_id}")).json() != before:
        client.problems.append(f"the replay has changed session {session_id}")


FACE_STEPS: list[list[Any]] = [["one ", 0.002, "two ", ["look", {"n": 8}]], ["three ", 0.002, "four"]]


async def completion(client: Client, n: int) -> None:
    """A turn in OpenAI's Chat Completions, under a key until it has ended, and once more: the same bytes."""
    message = {"role": "user", "content": json.dumps(FACE_STEPS)}
    body, key = {"model": "fault", "stream": True, "messages": [message]}, new_uuid()
    for _ in range(2):
        while not (await _read_face(client, "POST", "/v1/chat/completions", body, key)).endswith(b"data: [DONE]\n\n"):
            await asyncio.sleep(0.05)


async def response(client: Client, n: int) -> None:
    """A turn in OpenAI's Responses, in the background: its stream goes on behind the last event, without a gap."""
    body = {"model": "fault", "stream": True, "background": True, "input": json.dumps(FACE_STEPS)}
    key, frames = new_uuid(), list[bytes]()
    while not frames:
        frames = _whole(await _read_face(client, "POST", "/v1/responses", body, key))
        await asyncio.sleep(0.02)
    url = f"/v1/responses/{json.loads(frames[0].partition(b'data: ')[2])['response']['id']}"
    while frames[-1] != b"data: [DONE]":
        frames += _whole(await _read_face(client, "GET", f"{url}?stream=true&starting_after={len(frames) - 1}"))
        await asyncio.sleep(0.02)
    numbers = [json.loads(one.partition(b"data: ")[2])["sequence_number"] for one in frames[:-1]]
    again = _whole(await _read_face(client, "GET", f"{url}?stream=true"))
    if numbers != [*range(len(numbers))] or again != frames:
        client.problems.append(f"{url} was streamed as {frames} and then as {again}")


def _whole(stream: bytes) -> list[bytes]:
    """The frames of a stream that came whole, without an error of the stream alone."""
    return [one for one in stream.split(b"\n\n")[:-1] if not one.startswith(b"event: error\n")]


async def _read_face(client: Client, method: str, url: str, body: Any = None, key: str = "") -> bytes:
    """The stream of one request to a face, as far as it came, without comments."""
    headers, received = {"Idempotency-Key": key} if key else {}, b""
    starts = client.world.starts
    try:
        async with client.world.http.stream(method, url, json=body, headers=headers) as answer:
            if answer.status_code != 200:
                text = await answer.aread()
                if key:
                    client.seen.answers[key].append(Answer(answer.status_code, text))
                if answer.status_code != 503:
                    client.problems.append(f"{method} {url} answered {answer.status_code}: {text.decode()}")
                    raise Refused
                return b""
            client.sessions.append(answer.headers["x-session-id"])
            async for chunk in answer.aiter_raw():
                received += chunk
    except httpx.TimeoutException as error:
        raise Hangs(f"{method} {url}") from error
    except httpx.TransportError:
        await client.world.back(starts)
    stream = b"".join(one + b"\n\n" for one in received.split(b"\n\n")[:-1] if not one.startswith(b":"))
    if key and stream:
        client.seen.answers[key].append(Answer(200, stream, answer.headers["x-turn-id"]))
    return stream


ACTS: dict[str, Callable[[Client, int], Awaitable[None]]] = {
    one.__name__: one
    for one in (
        turn,
        client_tool,
        busy,
        work,
        callback,
        configuration,
        deletion,
        versions,
        long,
        steer,
        fork,
        public,
        budget,
        structured,
        forget,
        replay,
        completion,
        response,
    )
}
