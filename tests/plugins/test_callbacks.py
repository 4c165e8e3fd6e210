"""Callbacks: every notification is written where it happens, signed, and delivered at least once."""

import json
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bytebrew_callbacks import CallbacksPlugin, deliveries, outbox
from bytebrew_callbacks.deliveries import SCHEDULE

from bytebrew import Notification
from bytebrew.base.errors import SettingsError
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.governance.personal_data import Person
from bytebrew.contract.messages import Stop, ToolCall
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine
from tests.commands import environment
from tests.docs import ROOT
from tests.receiver import Receiver, receiving
from tests.tables import check_refusal, token_with

CALLBACKS, TASKS = "/api/v1/callbacks", "/api/v1/tasks"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
QUICK = (0.05, 0.05)


@asynccontextmanager
async def calling(
    *receivers: Receiver,
    schedule: Sequence[float] = QUICK,
    data: Path | None = None,
    model: Any = None,
    settings: dict[str, str] | None = None,
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine that may call the receivers, and tries again soon."""
    given = {
        "BYTEBREW_DISABLED_PLUGINS": "callbacks,demo",
        "BYTEBREW_CALLBACK_ORIGINS": ",".join(one.url for one in receivers),
        "BYTEBREW_CALLBACK_SECRET": SECRET,
        **(settings or {}),
    }
    plugin = CallbacksPlugin(schedule=schedule)
    provider = providing(model or ScriptedProvider([Stop("refusal")]))
    async with served_engine(("calling", plugin), provider, data=data, settings=given) as (engine, client):
        if not await engine.agents():
            await scripted_schema(engine)
        yield engine, client


async def callback(client: httpx.AsyncClient, url: str, *events: str, **more: Any) -> dict[str, Any]:
    body = {"name": "ops", "url": url, "events": events or ["turn.failed"], **more}
    answer = await client.post(CALLBACKS, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def fail(client: httpx.AsyncClient, schema: str = "test") -> httpx.Response:
    """A turn that fails."""
    return await client.post(f"/api/v1/schemas/{schema}/chat", json={"message": "Hi", "stream": False})


async def listed(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    page = await client.get(f"{CALLBACKS}/deliveries", params=query)
    assert page.status_code == 200, page.text
    rows: list[dict[str, Any]] = page.json()["data"]
    return rows


async def settled(client: httpx.AsyncClient, status: str, count: int = 1) -> list[dict[str, Any]]:
    """Deliveries of a status, once there are so many."""
    with anyio.fail_after(10):
        while len(rows := await listed(client, status=status)) < count:
            await anyio.sleep(0.01)
    return rows


async def measured(client: httpx.AsyncClient, line: str) -> None:
    """Waits until the metrics have a line, as the backlog is counted again after each delivery is stored."""
    with anyio.fail_after(10):
        while line not in (await client.get("/metrics")).text:
            await anyio.sleep(0.01)


def seconds_of(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def refused_as(answer: httpx.Response, status: int, code: str, path: str = "") -> None:
    body = check_refusal(answer)
    assert (answer.status_code, body["error"]) == (status, code), answer.text
    assert not path or body["details"][0]["path"] == path


async def test_a_failed_turn_is_told_in_the_standard_form_that_the_librarys_verify_accepts() -> None:
    async with receiving() as receiver, calling(receiver) as (_, client):
        made = await callback(client, f"{receiver.url}/hook?x=1")
        failed = await fail(client)
        [received] = await receiver.wait(1)
        message = received.verified(made["secret"])
        [row] = await settled(client, "delivered")
        where = message["data"].pop("url")
        turn = (await client.get(where)).json()
    assert received.path == "/hook?x=1"
    assert (message["type"], message["data"]["code"], message["data"]["status"]) == (
        "turn.failed",
        "model_refusal",
        "failed",
    )
    assert message["data"].items() >= {"schema": "test", "agent": "test", "parent_turn_id": None}.items()
    assert turn["turn_id"] == message["data"]["turn_id"] == row["subject"]
    assert received.id == row["id"]
    assert row["id"].startswith("msg_") and "." not in row["id"]
    assert abs(int(received.headers["webhook-timestamp"]) - time.time()) < 60
    assert failed.status_code >= 400
    assert (row["attempts"], row["last_status"], row["last_error"], row["next_at"]) == (1, 200, None, None)


async def test_a_waiting_approval_and_an_ended_task_are_told_with_ids_alone() -> None:
    model = ScriptedProvider(
        [ToolCall(tool="current_time", input={"secret": "words"}, call_id="1")], [MessageDelta(content="the answer")]
    )
    async with receiving() as receiver, calling(receiver, model=model) as (_, client):
        await client.patch("/api/v1/agents/test", json={"tools": ["current_time"], "confirm_before": ["current_time"]})
        await callback(client, receiver.url, "approval.waiting", "task.ended")
        made = (await client.post(TASKS, json={"title": "Private words", "agent": "test"})).json()
        [asked] = await receiver.wait(1)
        where = asked.json()["data"]["url"]
        assert (await client.post(where, json={"answers": ["approve"]})).status_code == 200
        _, ended = await receiver.wait(2)
        task = (await client.get(ended.json()["data"]["url"])).json()
    question, end = asked.json(), ended.json()
    assert (question["type"], question["data"]["tool"], question["data"]["kind"]) == (
        "approval.waiting",
        "current_time",
        "confirm",
    )
    assert (end["type"], end["data"]["task_id"], end["data"]["status"]) == ("task.ended", made["id"], "completed")
    assert task["status"] == "completed"
    assert not any(word in asked.body + ended.body for word in (b"words", b"answer", b"Private"))


async def test_a_callback_of_one_schema_hears_of_that_schema_and_a_disabled_one_of_nothing() -> None:
    async with receiving() as receiver, calling(receiver) as (_, client):
        await client.post("/api/v1/schemas", json={"name": "other", "entry_agent": "test", "chat_enabled": True})
        await callback(client, f"{receiver.url}/other", schema="other")
        await callback(client, f"{receiver.url}/off", name="off", enabled=False)
        await callback(client, f"{receiver.url}/tasks", "task.ended", name="tasks")
        await fail(client)
        await fail(client, "other")
        [received] = await receiver.wait(1)
        assert len(await listed(client)) == 1
    assert (received.path, received.json()["data"]["schema"]) == ("/other", "other")


async def test_every_try_has_the_same_id_and_body_and_what_is_never_taken_becomes_a_dead_letter() -> None:
    async with receiving("500", "302\nLocation: /elsewhere", "reset") as receiver, calling(receiver) as (_, client):
        made = await callback(client, receiver.url)
        await fail(client)
        [dead] = await settled(client, "dead")
        tries = list(receiver.received)
        await measured(client, 'bytebrew_callback_deliveries{status="dead"} 1')
        again = await client.post(f"{CALLBACKS}/deliveries/{dead['id']}/retry")
        assert again.json()["status"] == "pending"
        [row] = await settled(client, "delivered")
        refused_as(await client.post(f"{CALLBACKS}/deliveries/{row['id']}/retry"), 409, "already_delivered")
        refused_as(await client.post(f"{CALLBACKS}/deliveries/msg_0/retry"), 404, "not_found")
    assert (dead["attempts"], dead["next_at"]) == (3, None)
    assert {one.path for one in tries} == {"/"}
    assert {(one.id, one.body) for one in receiver.received} == {(dead["id"], tries[0].body)}
    assert [one.verified(made["secret"])["type"] for one in receiver.received] == ["turn.failed"] * 4


async def test_a_refusal_is_kept_as_a_short_excerpt_of_what_was_answered() -> None:
    async with receiving("500") as receiver, calling(receiver, schedule=()) as (_, client):
        await callback(client, receiver.url)
        await fail(client)
        [dead] = await settled(client, "dead")
        shown = (await client.get(f"{CALLBACKS}/ops")).json()
    assert (dead["last_status"], dead["last_error"]) == (500, "HTTP 500: words")
    assert (shown["last_status"], shown["last_error"]) == (500, "HTTP 500: words")


async def test_410_disables_the_callback_and_leaves_what_was_pending_as_dead_letters() -> None:
    async with receiving("410") as receiver, calling(receiver, schedule=(60.0,)) as (_, client):
        await callback(client, receiver.url)
        await fail(client)
        [dead] = await settled(client, "dead")
        shown = (await client.get(f"{CALLBACKS}/ops")).json()
        await fail(client)
        assert len(await listed(client)) == 1
        refused_as(await client.post(f"{CALLBACKS}/deliveries/{dead['id']}/retry"), 409, "callback_disabled")
        enabled = await client.patch(f"{CALLBACKS}/ops", json={"enabled": True})
        assert (enabled.json()["enabled"], enabled.json()["disabled_because"]) == (True, None)
        assert (await client.post(f"{CALLBACKS}/deliveries/{dead['id']}/retry")).status_code == 200
        await settled(client, "delivered")
    assert (shown["enabled"], shown["disabled_because"]) == (False, "Its receiver answered 410 Gone")


async def test_retry_after_puts_the_next_try_off_within_bounds() -> None:
    script = ("503\nRetry-After: 1", "429\nRetry-After: 999999999")
    async with receiving(*script) as receiver, calling(receiver, schedule=(0.01, 0.01, 0.01)) as (_, client):
        await callback(client, receiver.url)
        await fail(client)
        first, second = await receiver.wait(2)
        with anyio.fail_after(5):
            while (row := (await listed(client))[0])["attempts"] < 2:
                await anyio.sleep(0.01)
    assert second.at - first.at >= 0.9
    wait = (seconds_of(row["next_at"]) - time.time()) / 3600
    assert 23.9 < wait < 24.1


async def test_a_receiver_that_hangs_holds_up_no_other_and_gets_two_tries_at_a_time() -> None:
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(receiving(*["hang"] * 20))
        quick = await stack.enter_async_context(receiving())
        async with calling(slow, quick, settings={"BYTEBREW_CALLBACK_TIMEOUT": "2s"}) as (_, client):
            await callback(client, slow.url, name="slow")
            await callback(client, quick.url, name="quick")
            for _ in range(6):
                await fail(client)
            begun = time.monotonic()
            await quick.wait(6, 2)
            assert time.monotonic() - begun < 2
            await slow.wait(3)
            [*_, row] = await listed(client, callback="slow")
    assert slow.most_at_once == 2
    assert row["last_error"] == "No answer within 2 s"


async def test_the_schedule_is_that_of_the_specification_with_jitter() -> None:
    assert [0, *SCHEDULE] == [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    async with receiving("500") as receiver, calling(receiver, schedule=SCHEDULE) as (_, client):
        await callback(client, receiver.url)
        await fail(client)
        await receiver.wait(1)
        with anyio.fail_after(5):
            while (row := (await listed(client))[0])["attempts"] < 1:
                await anyio.sleep(0.01)
    assert 3 < seconds_of(row["next_at"]) - time.time() <= 5 * (1 + deliveries.JITTER)


async def test_two_secrets_sign_while_one_replaces_the_other(tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with calling(receiver, data=tmp_path) as (engine, client):
            old = await callback(client, receiver.url)
            new = (await client.post(f"{CALLBACKS}/ops/rotate")).json()
            assert new["secret"] != old["secret"]
            assert seconds_of(new["previous_until"]) - time.time() == pytest.approx(86400, abs=60)
            await fail(client)
            [both] = await receiver.wait(1)
            for one in (old, new):
                assert both.verified(one["secret"])["type"] == "turn.failed"
            await engine.db.write(lambda conn: conn.execute("update callbacks set previous_until = 1"))
            await fail(client)
            _, last = await receiver.wait(2)
            assert last.verified(new["secret"])
            assert len(last.headers["webhook-signature"].split()) == 1
            assert "secret" not in (await client.get(f"{CALLBACKS}/ops")).json()
            audit = (await client.get("/api/v1/audit")).text
        stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    for one in (old, new):
        assert one["secret"].encode() not in stored
        assert one["secret"] not in audit


async def test_only_public_addresses_are_called_unless_their_origin_is_listed() -> None:
    async with receiving() as receiver, calling(schedule=()) as (_, client):
        refused = await client.post(CALLBACKS, json={"name": "a", "url": receiver.url, "events": ["turn.failed"]})
        refused_as(refused, 400, "invalid_request", "$.url")
        private = receiver.url.replace("http:", "https:").replace("127.0.0.1", "localhost")
        await callback(client, private)
        await fail(client)
        [dead] = await settled(client, "dead")
        assert receiver.received == []
    assert "public address" in dead["last_error"]


async def test_a_task_calls_its_own_url_which_takes_a_scope_and_the_default_secret() -> None:
    async with receiving() as receiver, calling(receiver) as (engine, client):
        body = {"title": "Swim", "agent": "test", "require_approval": True, "callback_url": f"{receiver.url}/task"}
        made = (await client.post(TASKS, json=body)).json()
        assert made["callback_url"] == body["callback_url"]
        await client.delete(f"{TASKS}/{made['id']}")
        [received] = await receiver.wait(1)
        [row] = await settled(client, "delivered")
        for scopes, status in ((["tasks"], 403), (["tasks", "tasks:callback"], 201)):
            token = (await token_with(engine, *scopes)).token
            answer = await client.post(TASKS, json=body, headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status, answer.text
        refused_as(
            await client.post(TASKS, json=body | {"callback_url": "http://example.com/"}),
            400,
            "invalid_request",
            "$.callback_url",
        )
        assert (await client.get(TASKS)).json()["total"] == 2
    assert received.verified(SECRET)["data"]["status"] == "cancelled"
    assert (row["callback"], row["task_id"], row["url"]) == (None, made["id"], body["callback_url"])


async def test_a_callback_url_is_refused_where_nobody_could_sign_or_send_it() -> None:
    body = {"title": "Swim", "agent": "test", "callback_url": "https://example.com/"}
    async with calling(settings={"BYTEBREW_CALLBACK_SECRET": ""}) as (_, client):
        refused_as(await client.post(TASKS, json=body), 422, "unprocessable", "$.callback_url")
    without = {"BYTEBREW_DISABLED_PLUGINS": "callbacks,demo"}
    async with served_engine(providing(ScriptedProvider([])), settings=without) as (engine, client):
        await scripted_schema(engine)
        refused_as(await client.post(TASKS, json=body), 422, "unprocessable", "$.callback_url")


async def test_what_was_pending_is_delivered_by_the_next_engine(tmp_path: Path) -> None:
    async with receiving("hang", "hang", "500", "500") as receiver:
        async with calling(receiver, data=tmp_path) as (_, client):
            await callback(client, receiver.url)
            for _ in range(3):
                await fail(client)
            await receiver.wait(2)
            begun = time.monotonic()
        assert time.monotonic() - begun < deliveries.LEAVE_SECONDS + 5
        async with calling(receiver, data=tmp_path) as (_, client):
            rows = await settled(client, "delivered", 3)
    assert {one.id for one in receiver.received} == {row["id"] for row in rows}


async def test_a_deleted_callback_takes_its_deliveries_with_it_and_others_stay() -> None:
    async with receiving("500", "500") as receiver, calling(receiver, schedule=(60.0,)) as (_, client):
        await callback(client, receiver.url)
        await callback(client, receiver.url, name="other")
        await fail(client)
        await receiver.wait(2)
        assert (await client.delete(f"{CALLBACKS}/ops")).status_code == 204
        [left] = await listed(client)
        assert left["callback"] == "other"
        refused_as(await client.get(f"{CALLBACKS}/ops"), 404, "not_found")
        assert await listed(client, callback="ops") == []


async def test_deliveries_are_paged_by_status_and_callback() -> None:
    async with receiving() as receiver, calling(receiver) as (_, client):
        await callback(client, receiver.url)
        for _ in range(5):
            await fail(client)
        rows = await settled(client, "delivered", 5)
        first = (await client.get(f"{CALLBACKS}/deliveries", params={"limit": 2})).json()
        second = (await client.get(f"{CALLBACKS}/deliveries", params={"limit": 2, "after": first["next"]})).json()
        assert (first["total"], [*first["data"], *second["data"]]) == (5, rows[:4])
        refused_as(await client.get(f"{CALLBACKS}/deliveries?status=lost"), 400, "invalid_request", "$.status")
        refused_as(await client.get(f"{CALLBACKS}/deliveries?after=msg_0"), 404, "not_found")


async def test_a_callback_comes_and_goes_with_the_configuration_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    yaml = b"callbacks:\n  ops:\n    url: %s\n    events: [turn.failed]\n    secret: ${HOOK_SECRET}\n"
    async with receiving() as receiver, calling(receiver) as (_, client):
        for _ in range(2):
            body = yaml % receiver.url.encode()
            answer = await client.post("/api/v1/config/import", content=body, headers={"content-type": "text/yaml"})
            assert answer.status_code == 200, answer.text
        await fail(client)
        [received] = await receiver.wait(1)
        exported = (await client.get("/api/v1/config/export")).text
        assert received.verified(SECRET)
        assert "secret: ${" in exported and SECRET not in exported
        assert "name: ops" not in exported
        emptied = await client.post("/api/v1/config/import?mode=replace", json={"callbacks": {}})
        assert emptied.status_code == 200
        assert (await client.get(CALLBACKS)).json() == []


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"url": ""}, "$.url"),
        ({"url": "ftp://example.com/"}, "$.url"),
        ({"events": []}, "$.events"),
        ({"events": ["turn.done"]}, "$.events[0]"),
        ({"secret": "short"}, "$.secret"),
        ({"secret": "whsec_c2hvcnQ="}, "$.secret"),
        ({"name": "deliveries"}, "$.name"),
    ],
)
async def test_a_malformed_callback_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    body = {"name": "a", "url": "https://example.com/", "events": ["turn.failed"], **fields}
    async with calling() as (_, client):
        refused_as(await client.post(CALLBACKS, json=body), 400, "invalid_request", path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BYTEBREW_CALLBACK_ORIGINS", "example.com"),
        ("BYTEBREW_CALLBACK_ORIGINS", "http://example.com/path"),
        ("BYTEBREW_CALLBACK_SECRET", "a secret"),
    ],
)
async def test_a_malformed_setting_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        async with calling(settings={name: value}):
            pass


async def test_deliveries_of_a_person_are_exported_and_forgotten() -> None:
    async with receiving() as receiver, calling(receiver) as (engine, client):
        await callback(client, receiver.url)
        await fail(client)
        await fail(client)
        first, second = await receiver.wait(2)
        await settled(client, "delivered", 2)
        session_id = first.json()["data"]["session_id"]
        person = Person(("user:x",), "masked", (*(f"none-{n}" for n in range(600)), session_id))
        [exported] = await engine.db.read(lambda conn: list(outbox.of_person(conn, person)))
        assert json.loads(exported["body"])["data"]["session_id"] == session_id
        assert await engine.db.write(outbox.forget, person) == 1
        assert await engine.db.write(outbox.forget, person) == 0
        [left] = await listed(client)
        assert left["id"] == second.id


async def test_old_deliveries_that_have_ended_are_deleted_and_pending_ones_stay() -> None:
    async with receiving("200", "500") as receiver, calling(receiver, schedule=(60.0,)) as (engine, client):
        await callback(client, receiver.url)
        await fail(client)
        await settled(client, "delivered")
        await fail(client)
        await receiver.wait(2)
        await engine.db.write(
            lambda conn: conn.execute("update callbacks_deliveries set created_at = '2020-01-01T00:00:00Z'")
        )
        await engine.retention.run_once()
        assert [row["status"] for row in await listed(client)] == ["pending"]


async def test_what_is_published_in_a_transaction_that_fails_is_not_sent() -> None:
    def work(conn: Connection, engine: Engine) -> None:
        engine.publish(conn, Notification("budget.near", "b", {"budget": "b"}))
        raise ValueError("rolled back")

    async with receiving() as receiver, calling(receiver) as (engine, client):
        await callback(client, receiver.url, "budget.near")
        with pytest.raises(ValueError, match="rolled back"):
            await engine.db.write(work, engine)
        assert await listed(client) == []
        await engine.db.write(engine.publish, Notification("budget.near", "c", {"budget": "c"}))
        [received] = await receiver.wait(1)
    assert received.json()["data"] == {"budget": "c"}


async def test_the_receiver_on_the_page_prints_what_it_has_verified(tmp_path: Path) -> None:
    page = (
        (ROOT / "docs" / "how-to" / "operations.md").read_text().partition("\n## Callbacks\n")[2].partition("\n## ")[0]
    )
    [curl] = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    body = json.loads(re.findall(r"-d '(.*?)'", curl)[0])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = body["url"].replace("9000", str(port))
    async with AsyncExitStack() as stack:
        at_hand = Receiver()
        at_hand.url = url
        _, client = await stack.enter_async_context(calling(at_hand, schedule=(0.2,) * 50))
        answer = await client.post(CALLBACKS, json=body | {"url": url})
        secret = answer.json()["secret"]
        file = tmp_path / "receiver.py"
        file.write_text(program.replace("9000", str(port)))
        env = environment() | {"SECRET": secret}
        receiver = await anyio.open_process([sys.executable, str(file)], stderr=None, env=env)
        stack.push_async_callback(receiver.aclose)
        stack.callback(receiver.kill)
        await fail(client)
        assert receiver.stdout is not None
        line = ""
        with anyio.fail_after(20):
            while not line.endswith("\n"):
                line += (await receiver.stdout.receive()).decode()
        [row] = await settled(client, "delivered")
    assert line.split()[:2] == [row["id"], "turn.failed"]
    assert line.split()[2].startswith("/api/v1/sessions/")
