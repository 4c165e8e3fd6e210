"""Questions about tool calls: asked, answered, kept over restarts, and each answer used once."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew import Actor
from bytebrew.engine import Engine
from bytebrew.store import confirmations
from bytebrew.testing import ADMIN, events_of, names, served_engine
from tests import ledger
from tests.commands import install
from tests.ledger import Ledger
from tests.processes import Process, serving

LINE = Path(ledger.__file__).read_text()
TOOLS = ["pay", "look", "sign"]
PAY = [["let me ", ["pay", {"amount": 5}]], [None]]
"""A turn that pays and then says what the tool said."""


class Talk:
    """A stream of events that is read in the background."""

    def __init__(self, client: httpx.AsyncClient, method: str, url: str, **given: Any) -> None:
        self.raw = b""
        self.seen: list[Any] = []
        self.session_id = ""
        self._client = client
        self._task = asyncio.create_task(self._read(method, url, given))

    async def _read(self, method: str, url: str, given: dict[str, Any]) -> None:
        async with self._client.stream(method, url, **given) as response:
            self.session_id = response.headers.get("x-session-id", "")
            async for event in events_of(response):
                self.seen.append(event)
                if event.event in ("done", "error"):
                    return

    def datas(self, name: str) -> list[dict[str, Any]]:
        """The data of the events of a type that have come."""
        return [json.loads(event.data) for event in self.seen if event.event == name]

    async def until(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """The same, once there are so many."""
        with anyio.fail_after(15):
            while len(self.datas(name)) < count:
                if self._task.done():
                    await self._task
                    assert len(self.datas(name)) >= count, names(self.seen)
                await asyncio.sleep(0.005)
        return self.datas(name)

    async def end(self) -> list[str]:
        """The events' types, once the turn has ended."""
        with anyio.fail_after(15):
            await asyncio.wait([self._task])
        return names(self.seen)

    async def leave(self) -> None:
        """Reads no more."""
        self._task.cancel()
        await asyncio.wait([self._task])


def say(client: httpx.AsyncClient, steps: Sequence[Any], **body: Any) -> Talk:
    """A message that tells the model its steps."""
    return Talk(client, "POST", "/api/v1/schemas/test/chat", json={"message": json.dumps(steps), **body})


def follow(client: httpx.AsyncClient, session_id: str, after: int = 0) -> Talk:
    """A session's events up to the end of a turn."""
    return Talk(client, "GET", f"/api/v1/sessions/{session_id}/events", params={"after": after})


async def answer(client: httpx.AsyncClient, session_id: str, call_id: str, *words: str, **body: Any) -> httpx.Response:
    """An answer to a question of a session."""
    given = {"call_id": call_id, "answers": words, **body}
    return await client.post(f"/api/v1/sessions/{session_id}/respond", json=given)


async def configure(client: httpx.AsyncClient, **agent: Any) -> None:
    """A schema `test` whose agent has the ledger's tools and model."""
    for path, body in (
        ("models", {"name": "steps", "type": "steps", "model_name": "steps"}),
        ("agents", {"name": "test", "model": "steps", "tools": TOOLS, **agent}),
        ("schemas", {"name": "test", "entry_agent": "test", "chat_enabled": True}),
    ):
        made = await client.post(f"/api/v1/{path}", json=body)
        assert made.status_code == 201, made.text


@asynccontextmanager
async def engine_on(data: Path, **settings: str) -> AsyncIterator[tuple[Engine, httpx.AsyncClient, Ledger]]:
    """An engine with the ledger's plugin; on a folder that was used before it goes on."""
    given = {"BYTEBREW_LEDGER": str(data / "ledger"), **settings}
    async with served_engine(("ledger", ledger), data=data, settings=given) as (running, client):
        yield running, client, Ledger(data / "ledger")


class Setup:
    """A folder for engines in processes of their own, with the ledger's plugin."""

    def __init__(self, folder: Path) -> None:
        install(folder / "plugins", "ledger", LINE)
        self.data = folder / "data"
        self.ledger = Ledger(folder / "ledger")
        self._settings = {
            "BYTEBREW_PLUGINS_DIR": str(folder / "plugins"),
            "BYTEBREW_LEDGER": str(folder / "ledger"),
        }

    @asynccontextmanager
    async def serving(self, **settings: str) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
        """A process, and a client for it."""
        headers = {"Authorization": f"Bearer {ADMIN}"}
        with serving(self.data, {**self._settings, **settings}) as process:
            async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=30) as client:
                yield process, client


@pytest.fixture
def processes(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


@pytest.mark.parametrize(
    ("words", "given", "told", "happened"),
    [
        (("approve",), {}, "paid 5", ["pay 5"]),
        ((" YES ",), {}, "paid 5", ["pay 5"]),
        (("reject",), {"reason": "too dear"}, "A person refused this call: too dear", []),
        (("no", "too dear"), {}, "A person refused this call: too dear", []),
        (("sure, why not",), {}, "A person refused this call", []),
        (
            ("approve",),
            {"input": {"amount": 3}},
            '[A person changed the arguments to {"amount":3}]\npaid 3',
            ["pay 3"],
        ),
        (
            ("approve",),
            {"input": {"sum": 3}},
            '[A person changed the arguments to {"sum":3}]\nThe arguments do not fit: Object contains unknown field'
            " `sum`",
            [],
        ),
    ],
)
async def test_the_model_is_told_what_a_person_decided(
    words: tuple[str, ...], given: dict[str, Any], told: str, happened: list[str], tmp_path: Path
) -> None:
    async with engine_on(tmp_path) as (_, client, written):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        assert not written.counts()["pay 5"]
        answered = await answer(client, talk.session_id, asked["call_id"], *words, **given)
        assert answered.status_code == 200, answered.text
        await talk.end()
        session = (await client.get(f"/api/v1/sessions/{talk.session_id}")).json()
    assert [event for event in names(talk.seen) if event != "message_delta"] == [
        *("tool_call", "confirmation", "tool_result", "message", "done"),
    ]
    assert talk.datas("tool_result")[0]["output"] == told
    assert talk.datas("message")[0]["content"] == f"let me {told}"
    assert session["messages"][2]["content"] == told
    assert [line for line in written.counts() if not line.startswith("model")] == happened


async def test_a_tool_may_ask_before_every_call_by_itself(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (_, client, written):
        await configure(client)
        talk = say(client, [[["sign", {"name": "anna"}], ["pay", {"amount": 1}]], ["ok"]])
        [asked] = await talk.until("confirmation")
        assert (asked["tool"], asked["input"]) == ("sign", {"name": "anna"})
        await answer(client, talk.session_id, asked["call_id"], "approve")
        await talk.end()
    assert len(talk.datas("confirmation")) == 1
    assert written.counts() == {"model 0": 1, "model 1": 1, "sign anna": 1, "pay 1": 1}


async def test_the_question_says_all_that_a_person_must_know(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (_, client, _):
        await configure(client, confirm_before=["pay"])
        first, second = say(client, PAY), say(client, [[["pay", {"amount": 6}]], ["ok"]])
        [asked], [other] = await first.until("confirmation"), await second.until("confirmation")
    assert asked["confirmation_id"].startswith("conf_")
    assert asked | {"confirmation_id": "", "turn_id": ""} == {
        "session_id": first.session_id,
        "turn_id": "",
        "confirmation_id": "",
        "call_id": first.datas("tool_call")[0]["call_id"],
        "source": "built-in",
        "tool": "pay",
        "risk": "safe",
        "input": {"amount": 5},
        "args_digest": confirmations.digest("built-in", "pay", {"amount": 5}),
        "kind": "confirm",
        "expires_at": None,
    }
    assert asked["args_digest"] != other["args_digest"]


def test_the_digest_is_of_the_tool_its_source_and_its_arguments_in_any_order() -> None:
    one = confirmations.digest("built-in", "pay", {"amount": 5, "to": "anna"})
    assert one == confirmations.digest("built-in", "pay", {"to": "anna", "amount": 5})
    others = [
        ("built-in", "pay", {"amount": 5}),
        ("built-in", "sign", {"amount": 5}),
        ("mcp:bank", "pay", {"amount": 5}),
    ]
    assert len({one, *(confirmations.digest(*other) for other in others)}) == 4
    assert len(bytes.fromhex(one)) == 32


async def test_two_questions_of_one_step_are_answered_in_reverse_order(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (_, client, written):
        await configure(client, confirm_before=["pay"], tool_execution="parallel")
        steps = [[["pay", {"amount": 1}], ["look", {"n": 1}], ["pay", {"amount": 2}]], ["ok"]]
        talk = say(client, steps)
        first, second = await talk.until("confirmation", 2)
        [seen] = await talk.until("tool_result")
        assert (seen["tool"], first["input"], second["input"]) == ("look", {"amount": 1}, {"amount": 2})
        await answer(client, talk.session_id, second["call_id"], "approve")
        await talk.until("tool_result", 2)
        assert not written.counts()["pay 1"]
        await answer(client, talk.session_id, first["call_id"], "no")
        assert (await talk.end())[-1] == "done"
        session = (await client.get(f"/api/v1/sessions/{talk.session_id}")).json()
    assert [result["output"] for result in talk.datas("tool_result")] == [
        "saw 1",
        "paid 2",
        "A person refused this call",
    ]
    assert [message["role"] for message in session["messages"]] == ["user", "assistant", *["tool"] * 3, "assistant"]
    assert written.counts() == {"model 0": 1, "model 1": 1, "look 1": 1, "pay 2": 1}


async def test_a_question_that_nobody_answers_in_time_is_over(tmp_path: Path) -> None:
    async with engine_on(tmp_path, BYTEBREW_CONFIRMATION_TTL="100ms") as (_, client, written):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        await talk.end()
        [asked] = talk.datas("confirmation")
        assert talk.datas("tool_result")[0] | {"call_id": ""} == {
            "tool": "pay",
            "output": "Nobody answered in time whether this call may run, so it did not",
            "call_id": "",
            "has_error": True,
        }
        late = await answer(client, talk.session_id, asked["call_id"], "approve")
    assert asked["expires_at"] is not None
    assert (late.status_code, late.json()["error"]) == (410, "gone")
    assert not written.counts()["pay 5"]


async def test_an_answer_that_comes_after_its_time_is_late_even_if_the_turn_has_not_noticed(tmp_path: Path) -> None:
    async with engine_on(tmp_path, BYTEBREW_CONFIRMATION_TTL="1h") as (running, client, written):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        past = "update confirmations set expires_at = '2020-01-01T00:00:00.000000Z'"
        await running.db.write(lambda conn: conn.execute(past) and None)
        late = await answer(client, talk.session_id, asked["call_id"], "approve")
        assert late.status_code == 410
        assert (await talk.end())[-1] == "done"
        assert talk.datas("tool_result")[0]["output"].startswith("Nobody answered in time")
        assert not written.counts()["pay 5"]


async def test_the_turns_time_stands_still_while_a_person_thinks(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (_, client, _):
        await configure(client, confirm_before=["pay"], max_turn_duration=1)
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        await asyncio.sleep(1.2)
        await answer(client, talk.session_id, asked["call_id"], "approve")
        assert (await talk.end())[-1] == "done"
        slow = say(client, [[["pay", {"amount": 6, "slow": 9}]], ["ok"]])
        [asked] = await slow.until("confirmation")
        await asyncio.sleep(0.5)
        await answer(client, slow.session_id, asked["call_id"], "approve")
        started = anyio.current_time()
        assert (await slow.end())[-1] == "error"
        assert 0.5 < anyio.current_time() - started < 1.5
    assert slow.datas("error")[0]["code"] == "turn_timeout"


async def test_a_question_of_a_cancelled_turn_is_over(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (_, client, written):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        await client.post(f"/api/v1/sessions/{talk.session_id}/cancel")
        assert (await talk.end())[-1] == "done"
        late = await answer(client, talk.session_id, asked["call_id"], "approve")
        assert (await client.get("/api/v1/approvals")).json()["data"] == []
        again = say(client, [["ok"]], session_id=talk.session_id)
        assert (await again.end())[-1] == "done"
    assert late.status_code == 410
    assert not written.counts()["pay 5"]


async def test_of_twenty_racing_answers_one_counts(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (_, client, written):
        await configure(client, confirm_before=["pay"])
        for _ in range(3):
            talk = say(client, PAY)
            [asked] = await talk.until("confirmation")
            before = written.counts()["pay 5"]
            words = ["approve", "reject"] * 10
            racing = [answer(client, talk.session_id, asked["call_id"], word) for word in words]
            answers = await asyncio.gather(*racing)
            assert (await talk.end())[-1] == "done"
            statuses = {
                word: {one.status_code for one, said in zip(answers, words, strict=True) if said == word}
                for word in ("approve", "reject")
            }
            approved = statuses["approve"] == {200}
            assert statuses == {"approve": {200 if approved else 409}, "reject": {409 if approved else 200}}
            assert written.counts()["pay 5"] - before == approved
            assert len(talk.datas("tool_result")) == 1
            assert {one.json()["approved"] for one in answers if one.status_code == 200} == {approved}


# Over the end of an engine


async def test_a_question_outlives_the_engine_and_its_tool_runs_once(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        with anyio.fail_after(2):
            await running.drain(60)
    async with engine_on(tmp_path) as (_, client, written):
        assert [one["id"] for one in (await client.get("/api/v1/approvals")).json()["data"]] == [
            asked["confirmation_id"]
        ]
        rest = follow(client, talk.session_id, int(talk.seen[2].id))
        answered = await answer(client, talk.session_id, asked["call_id"], "approve", input={"amount": 4})
        assert answered.status_code == 200
        await rest.end()
    numbers = [int(event.id) for event in (*talk.seen[:3], *rest.seen)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert names(rest.seen) == ["tool_result", "message_delta", "message", "done"]
    assert written.counts() == {"model 0": 1, "model 1": 1, "pay 4": 1}


async def test_an_answer_that_meets_a_stopping_engine_is_used_at_the_next_start(tmp_path: Path) -> None:
    person = Actor(subject="user:anna", name="anna", kind="user", scopes=frozenset({"admin"}))
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        draining = asyncio.create_task(running.drain(60))
        assert (
            await running.confirmations.answer(person, (asked["confirmation_id"],), ("approve",))
        ).status == "approved"
        assert (await answer(client, talk.session_id, asked["call_id"], "approve")).status_code == 503
        await draining
        await talk.end()
        assert not written.counts()["pay 5"]
    async with engine_on(tmp_path) as (_, client, written):
        await follow(client, talk.session_id).end()
        again = (await answer(client, talk.session_id, asked["call_id"], "approve")).json()["confirmation"]
    assert (again["status"], again["answered_by"]) == ("spent", "user:anna")
    assert written.counts() == {"model 0": 1, "model 1": 1, "pay 5": 1}


async def test_a_question_whose_time_ends_while_the_engine_is_down_is_over_at_the_next_start(tmp_path: Path) -> None:
    async with engine_on(tmp_path, BYTEBREW_CONFIRMATION_TTL="300ms") as (running, client, _):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        await talk.until("confirmation")
        await running.drain(60)
        await talk.end()
    await asyncio.sleep(0.3)
    async with engine_on(tmp_path) as (_, client, written):
        rest = follow(client, talk.session_id)
        assert (await rest.end())[-1] == "done"
    assert rest.datas("tool_result")[0]["output"].startswith("Nobody answered in time")
    assert not written.counts()["pay 5"]


async def test_a_turn_that_asks_while_the_engine_drains_does_not_hold_it_up(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client, confirm_before=["pay"])
        talk = say(client, [["let me ", 0.3, ["pay", {"amount": 5}]], ["ok"]])
        await talk.until("message_delta")
        with anyio.fail_after(5):
            await running.drain(60)
    async with engine_on(tmp_path) as (_, client, written):
        rest = follow(client, talk.session_id)
        [asked] = await rest.until("confirmation")
        await answer(client, talk.session_id, asked["call_id"], "approve")
        assert (await rest.end())[-1] == "done"
    assert written.counts() == {"model 0": 1, "model 1": 1, "pay 5": 1}


async def test_a_call_that_was_asked_about_stays_gated_whatever_its_agent_says_later(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        await client.put("/api/v1/agents/test", json={"confirm_before": []})
        await running.drain(60)
    async with engine_on(tmp_path) as (_, client, written):
        rest = follow(client, talk.session_id)
        await asyncio.sleep(0.2)
        assert not written.counts()["pay 5"]
        await answer(client, talk.session_id, asked["call_id"], "reject")
        await rest.end()
    assert not written.counts()["pay 5"]


async def test_a_killed_engine_asks_no_second_time_and_the_tool_runs_once(processes: Setup) -> None:
    async with processes.serving() as (process, client):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        process.kill()
        await talk.leave()
    async with processes.serving() as (process, client):
        rest = follow(client, talk.session_id)
        await rest.until("confirmation")
        answered = await answer(client, talk.session_id, asked["call_id"], "approve")
        assert answered.status_code == 200
        await rest.end()
        assert (await answer(client, talk.session_id, asked["call_id"], "approve")).status_code == 200
        assert process.stop() == 0
    assert [int(event.id) for event in rest.seen] == list(range(1, len(rest.seen) + 1))
    assert [event.event for event in rest.seen].count("confirmation") == 1
    assert rest.datas("message")[0]["content"] == "let me paid 5"
    assert processes.ledger.counts() == {"model 0": 1, "model 1": 1, "pay 5": 1}


async def test_sigterm_stops_an_engine_that_waits_for_a_person_at_once(processes: Setup) -> None:
    async with processes.serving(BYTEBREW_DRAIN_SECONDS="25s") as (process, client):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        started = anyio.current_time()
        assert process.stop() == 0
        assert anyio.current_time() - started < 5
        await talk.end()
        assert "Traceback" not in process.errors
    async with processes.serving() as (process, client):
        rest = follow(client, talk.session_id)
        await answer(client, talk.session_id, asked["call_id"], "approve")
        assert (await rest.end())[-1] == "done"
    assert [int(event.id) for event in rest.seen] == list(range(1, len(rest.seen) + 1))
    assert processes.ledger.counts() == {"model 0": 1, "model 1": 1, "pay 5": 1}
