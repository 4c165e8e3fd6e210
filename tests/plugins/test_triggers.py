"""Triggers: schedules that fire once and at the right moment, webhooks that only their sender can call."""

import hashlib
import hmac
import json
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bytebrew_triggers import Triggers, schedules
from bytebrew_triggers.definition import NewSchedule, next_moment
from bytebrew_triggers.webhooks import rendered

from bytebrew.base.errors import InvalidRequest
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, providing, scripted_schema, served_engine
from tests.commands import install
from tests.processes import serving
from tests.tables import check_refusal, token_with

SECRET = "a-secret-of-some-length"
SCHEDULES, WEBHOOKS, CONFIG = "/api/v1/schedules", "/api/v1/webhooks", "/api/v1/config"
NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self, moment: datetime = NOON) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


@asynccontextmanager
async def engine_at(
    clock: Clock, data: Path | None = None, **settings: str
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine with an agent `test`, which takes the clock's word for the time and does no work."""
    given = {"BYTEBREW_DISABLED_PLUGINS": "triggers,demo", "BYTEBREW_TASK_WORKERS": "0", **settings}
    model = providing(ScriptedProvider([MessageDelta(content="ok")]))
    async with served_engine(("clocked", Triggers(clock)), model, data=data, settings=given) as (engine, client):
        if not await engine.agents():
            await scripted_schema(engine)
        yield engine, client


async def made(client: httpx.AsyncClient, url: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(url, json={"agent": "test", **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def tasks(client: httpx.AsyncClient, source: str = "") -> list[dict[str, Any]]:
    """Tasks, oldest first."""
    page = (await client.get("/api/v1/tasks", params={"source": source, "per_page": 500})).json()
    found: list[dict[str, Any]] = page["tasks"][::-1]
    return found


def refused_as(answer: httpx.Response, status: int, code: str, path: str = "") -> None:
    body = check_refusal(answer)
    assert (answer.status_code, body["error"]) == (status, code)
    assert not path or body["details"][0]["path"] == path


# Moments


def moments(cron: str, zone: str, after: str, count: int = 3) -> list[str]:
    """The next moments, as the zone's clocks show them."""
    schedule = NewSchedule(name="s", agent="a", cron=cron, timezone=zone)
    found, moment = [], datetime.fromisoformat(after).astimezone(UTC)
    for _ in range(count):
        later = next_moment(schedule, moment)
        assert later > moment
        moment = later
        found.append(moment.isoformat(timespec="minutes").removesuffix("+00:00"))
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 9 * * *", "UTC", "2026-03-20T12:00Z", ["2026-03-21T09:00", "2026-03-22T09:00"]),
        ("0 9 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["2026-03-29T07:00", "2026-03-30T07:00"]),
        ("0 9 * * *", "Europe/Berlin", "2026-03-27T12:00Z", ["2026-03-28T08:00", "2026-03-29T07:00"]),
        # 02:30 does not come on 29 March: it is made up for as soon as there is an hour again
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        # 02:30 comes twice on 25 October and counts once
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10Z", ["2026-10-26T01:30", "2026-10-27T01:30"]),
        # each hour is each hour, however the clocks change
        ("30 * * * *", "Europe/Berlin", "2026-03-29T00:00Z", ["2026-03-29T00:30", "2026-03-29T01:30"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T00:00Z", ["2026-10-25T00:30", "2026-10-25T01:30"]),
        ("*/20 * * * *", "Europe/Berlin", "2026-10-25T00:50Z", ["2026-10-25T01:00", "2026-10-25T01:20"]),
        ("0 0 29 2 *", "UTC", "2026-03-20T12:00Z", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0 12 * * MON", "Asia/Kathmandu", "2026-03-20T12:00Z", ["2026-03-23T06:15", "2026-03-30T06:15"]),
    ],
)
def test_moments_are_those_of_the_zones_clocks(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert moments(cron, zone, after, 2) == expected


def test_no_minute_of_a_changed_clock_fires_twice_or_never() -> None:
    for after, last in (("2026-03-28T23:00Z", "2026-03-29T03:00"), ("2026-10-24T22:00Z", "2026-10-25T03:00")):
        schedule = NewSchedule(name="s", agent="a", cron="0,15,30,45 2 * * *", timezone="Europe/Berlin")
        fired = set()
        moment = datetime.fromisoformat(after)
        while (moment := moment + timedelta(minutes=1)) < datetime.fromisoformat(f"{last}+00:00"):
            fired.add(next_moment(schedule, moment))
        here = [one for one in fired if one.date().isoformat() == last[:10]]
        assert len(here) == (4 if last.startswith("2026-10") else 1)


@pytest.mark.parametrize(
    ("cron", "zone", "path"),
    [
        ("", "UTC", "$.cron"),
        ("* * * *", "UTC", "$.cron"),
        ("* * * * * *", "UTC", "$.cron"),
        ("60 * * * *", "UTC", "$.cron"),
        ("* * 30 2 *", "UTC", "$.cron"),
        ("@daily", "UTC", "$.cron"),
        ("0 0 * * ²L", "UTC", "$.cron"),
        ("0 9 * * *", "Mars/Olympus", "$.timezone"),
        ("0 9 * * *", "../etc/passwd", "$.timezone"),
        ("0 9 * * *", "Europe", "$.timezone"),
        ("0 9 * * *", "", "$.timezone"),
        ("0 9 * * *", "\0", "$.timezone"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_place(cron: str, zone: str, path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        moments(cron, zone, "2026-03-20T12:00Z")
    assert refused.value.details[0].path == path


# Schedules


async def test_a_schedule_makes_its_task_when_it_is_due_and_once() -> None:
    clock = Clock()
    async with engine_at(clock) as (engine, client):
        schedule = await made(client, SCHEDULES, name="tea", cron="5 12 * * *", title="Tea", message="Make tea")
        assert schedule["next_at"] == "2026-03-20T12:05:00Z"
        for seconds, count in ((299, 0), (300, 1), (301, 1), (24 * 3600 + 299, 1), (24 * 3600 + 310, 2)):
            clock.moment = NOON + timedelta(seconds=seconds)
            await engine.state[schedules.SCHEDULES].fire()
            await engine.state[schedules.SCHEDULES].fire()
            assert len(await tasks(client, "schedule")) == count
        [task, _] = await tasks(client)
        assert {name: task[name] for name in ("agent", "title", "description", "source", "mode", "status")} == {
            "agent": "test",
            "title": "Tea",
            "description": "Make tea",
            "source": "schedule",
            "mode": "background",
            "status": "pending",
        }
        found = (await client.get(f"{SCHEDULES}/tea")).json()
        assert found["next_at"] == "2026-03-22T12:05:00Z"
        assert found["last_task_id"] == (await tasks(client))[-1]["id"]
        assert found["last_error"] is None


async def test_a_due_schedule_fires_by_itself_and_its_task_runs() -> None:
    clock = Clock(NOON - timedelta(seconds=0.3))
    async with engine_at(clock, BYTEBREW_TASK_WORKERS="1") as (_, client):
        await made(client, SCHEDULES, name="tea", cron="* * * * *")
        clock.moment = NOON
        with anyio.fail_after(10):
            while [task["status"] for task in await tasks(client)] != ["completed"]:
                await anyio.sleep(0.02)
        assert (await tasks(client))[0]["title"] == "tea"


@pytest.mark.parametrize(("missed", "count"), [("skip", 0), ("once", 1)])
async def test_what_was_missed_while_the_engine_was_down_is_as_it_says(missed: str, count: int, tmp_path: Path) -> None:
    clock = Clock()
    async with engine_at(clock, tmp_path) as (_, client):
        await made(client, SCHEDULES, name="tea", cron="0 * * * *", missed=missed)
    clock.moment = NOON + timedelta(hours=5, minutes=10)
    for _ in range(2):
        async with engine_at(clock, tmp_path) as (engine, client):
            await engine.state[schedules.SCHEDULES].fire()
            assert len(await tasks(client)) == count
            assert (await client.get(f"{SCHEDULES}/tea")).json()["next_at"] == "2026-03-20T18:00:00Z"
    clock.moment = NOON + timedelta(hours=5, minutes=59)
    async with engine_at(clock, tmp_path) as (engine, client):
        clock.moment = NOON + timedelta(hours=6, seconds=3)
        await engine.state[schedules.SCHEDULES].fire()
        assert len(await tasks(client)) == count + 1


@pytest.mark.parametrize("missed", ["skip", "once"])
@pytest.mark.parametrize("restart", ["", "ahead", "back"])
async def test_a_schedule_that_fired_by_a_clock_far_ahead_fires_at_its_times_once_that_is_set_back(
    missed: str, restart: str, tmp_path: Path
) -> None:
    clock = Clock()
    async with AsyncExitStack() as stack:
        engine, client = await stack.enter_async_context(engine_at(clock, tmp_path))

        async def again(moment: datetime) -> tuple[Engine, httpx.AsyncClient]:
            await stack.aclose()  # before the clock is set, or this engine may see it yet
            clock.moment = moment
            return await stack.enter_async_context(engine_at(clock, tmp_path))

        await made(client, SCHEDULES, name="tea", cron="5 * * * *", missed=missed)
        if restart == "ahead":
            engine, client = await again(NOON + timedelta(days=400))
        clock.moment = NOON + timedelta(days=400)
        await engine.state[schedules.SCHEDULES].fire()
        assert len(await tasks(client)) == (0 if (restart, missed) == ("ahead", "skip") else 1)
        before = len(await tasks(client))
        await made(client, SCHEDULES, name="new", cron="5 * * * *", missed=missed)
        if restart == "back":
            engine, client = await again(NOON + timedelta(minutes=1))
        clock.moment = NOON + timedelta(minutes=1)
        await engine.state[schedules.SCHEDULES].fire()
        for name in ("tea", "new"):
            assert (await client.get(f"{SCHEDULES}/{name}")).json()["next_at"] == "2026-03-20T12:05:00Z"
        for minutes, count in ((4, 0), (5, 2), (6, 2), (64, 2), (65, 4)):
            clock.moment = NOON + timedelta(minutes=minutes)
            await engine.state[schedules.SCHEDULES].fire()
            assert len(await tasks(client)) - before == count


@pytest.mark.parametrize("restart", [False, True])
async def test_a_clock_that_is_set_back_a_little_has_nothing_fire_twice(restart: bool, tmp_path: Path) -> None:
    clock = Clock()
    async with engine_at(clock, tmp_path) as (engine, client):
        await made(client, SCHEDULES, name="tea", cron="5 12 * * *")
        clock.moment = NOON + timedelta(minutes=5, seconds=3)
        await engine.state[schedules.SCHEDULES].fire()
        clock.moment = NOON + timedelta(minutes=4, seconds=58)
        if not restart:
            await engine.state[schedules.SCHEDULES].fire()
            clock.moment = NOON + timedelta(minutes=6)
            await engine.state[schedules.SCHEDULES].fire()
            assert len(await tasks(client)) == 1
    async with engine_at(clock, tmp_path) as (engine, client):
        clock.moment = NOON + timedelta(minutes=7)
        await engine.state[schedules.SCHEDULES].fire()
        assert len(await tasks(client)) == 1


async def test_a_change_counts_at_once_and_a_disabled_schedule_rests() -> None:
    clock = Clock()
    async with engine_at(clock) as (engine, client):
        await made(client, SCHEDULES, name="tea", cron="5 12 * * *")
        clock.moment = NOON + timedelta(minutes=2)
        url = f"{SCHEDULES}/tea"
        assert (await client.patch(url, json={"message": "Green"})).json()["next_at"] == "2026-03-20T12:05:00Z"
        assert (await client.patch(url, json={"cron": "3 12 * * *"})).json()["next_at"] == "2026-03-20T12:03:00Z"
        later = (await client.put(url, json={"timezone": "Europe/Berlin"})).json()
        assert (later["next_at"], later["message"]) == ("2026-03-21T11:03:00Z", "Green")
        assert (await client.patch(url, json={"enabled": False})).json()["next_at"] is None
        clock.moment = NOON + timedelta(days=9)
        await engine.state[schedules.SCHEDULES].fire()
        assert await tasks(client) == []
        assert (await client.patch(url, json={"enabled": True})).json()["next_at"] == "2026-03-30T10:03:00Z"
        assert (await client.delete(url)).status_code == 204
        refused_as(await client.get(url), 404, "not_found")


async def test_a_schedule_without_its_agent_says_so_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    async with engine_at(clock) as (engine, client):
        await client.post("/api/v1/agents", json={"name": "spare", "model": "test"})
        await made(client, SCHEDULES, name="gone", cron="5 12 * * *", agent="spare")
        await made(client, SCHEDULES, name="here", cron="5 12 * * *")
        await client.delete("/api/v1/agents/spare")
        clock.moment = NOON + timedelta(minutes=5)
        with caplog.at_level(logging.WARNING):
            await engine.state[schedules.SCHEDULES].fire()
        assert "schedule gone makes no task: There is no agent 'spare'" in caplog.text
        assert [task["title"] for task in await tasks(client)] == ["here"]
        gone = (await client.get(f"{SCHEDULES}/gone")).json()
        assert (gone["last_error"], gone["last_task_id"]) == ("There is no agent 'spare'", None)
        assert gone["next_at"] == "2026-03-21T12:05:00Z"


def leave_time(conn: Connection, name: str) -> None:
    """Gives a schedule a time zone that the system does not know any more."""
    stored = conn.execute("select definition from triggers_schedules where name = ?", (name,)).fetchone()[0]
    definition = json.dumps({**json.loads(stored), "timezone": "Mars"})
    conn.execute("update triggers_schedules set definition = ? where name = ?", (definition, name))


async def test_a_schedule_whose_time_zone_is_gone_stops_no_other() -> None:
    clock = Clock()
    async with engine_at(clock) as (engine, client):
        for name in ("gone", "here"):
            await made(client, SCHEDULES, name=name, cron="5 12 * * *")
        await engine.db.write(leave_time, "gone")
        clock.moment = NOON + timedelta(minutes=5)
        await engine.state[schedules.SCHEDULES].fire()
        assert [task["title"] for task in await tasks(client)] == ["here"]
        gone = (await client.get(f"{SCHEDULES}/gone")).json()
        assert (gone["next_at"], gone["last_error"]) == (None, "'Mars' is not a time zone")
        mended = (await client.patch(f"{SCHEDULES}/gone", json={"timezone": "UTC"})).json()
        assert mended["next_at"] == "2026-03-21T12:05:00Z"


@pytest.mark.parametrize(
    ("fields", "status", "path"),
    [
        ({"cron": "never"}, 400, "$.cron"),
        ({"timezone": "Mars"}, 400, "$.timezone"),
        ({"missed": "twice"}, 400, "$.missed"),
        ({"agent": "nobody"}, 422, "$.agent"),
        ({"schema": "nowhere"}, 422, "$.schema"),
        ({"colour": "red"}, 400, "$.colour"),
    ],
)
async def test_a_schedule_that_does_not_fit_is_refused(fields: dict[str, Any], status: int, path: str) -> None:
    async with engine_at(Clock()) as (_, client):
        body = {"name": "tea", "cron": "0 9 * * *", "agent": "test"}
        new = await client.post(SCHEDULES, json={**body, **fields})
        await made(client, SCHEDULES, **body)
        for answer in (new, await client.patch(f"{SCHEDULES}/tea", json=fields)):
            assert answer.status_code == status
            assert check_refusal(answer)["details"][0]["path"] == path
        refused_as(await client.post(SCHEDULES, json=body), 409, "conflict")


@pytest.mark.parametrize("name", ["cron", "timezone"])
async def test_a_long_schedule_is_refused_with_a_short_message(name: str) -> None:
    async with engine_at(Clock()) as (_, client):
        query = {"cron": "0 9 * * *", "timezone": "UTC"} | {name: "0 9 * * " + "x" * 5000}
        refused = await client.get(f"{SCHEDULES}/preview", params=query)
        assert refused.status_code == 400 and len(refused.json()["message"]) < 1000


async def test_a_schedule_is_previewed_before_it_is_made() -> None:
    async with engine_at(Clock()) as (_, client):
        query = {"cron": "30 9 * * MON", "timezone": "Europe/Berlin"}
        found = (await client.get(f"{SCHEDULES}/preview", params=query)).json()
        assert found == {"moments": ["2026-03-23T08:30:00Z", "2026-03-30T07:30:00Z", "2026-04-06T07:30:00Z"]}
        for wrong, path in (({"cron": "never"}, "$.cron"), ({"cron": "* * * * *", "timezone": "Mars"}, "$.timezone")):
            refused_as(await client.get(f"{SCHEDULES}/preview", params=wrong), 400, "invalid_request", path)


async def test_a_schedule_runs_out_of_turn_and_keeps_its_own() -> None:
    async with engine_at(Clock()) as (_, client):
        new = await made(client, SCHEDULES, name="tea", cron="0 13 * * *", message="Make some", enabled=False)
        key = {"Idempotency-Key": "once"}
        for _ in range(2):
            answer = await client.post(f"{SCHEDULES}/tea/run", headers=key)
            assert answer.status_code == 202, answer.text
        [task] = await tasks(client, "schedule")
        assert answer.json() == {"task_id": task["id"], "status": "pending"}
        assert (task["title"], task["description"]) == ("tea", "Make some")
        after = (await client.get(f"{SCHEDULES}/tea")).json()
        assert (after["last_task_id"], after["next_at"]) == (task["id"], new["next_at"])
        refused_as(await client.post(f"{SCHEDULES}/nothing/run"), 404, "not_found")
        await client.post("/api/v1/agents", json={"name": "spare"})
        await client.patch(f"{SCHEDULES}/tea", json={"agent": "spare"})
        await client.delete("/api/v1/agents/spare")
        refused_as(await client.post(f"{SCHEDULES}/tea/run"), 422, "unprocessable", "$.agent")


CLOCKED = """
import time
from datetime import datetime, timedelta
from pathlib import Path

from bytebrew_triggers import Triggers

begun = []


def clock():
    begun.append(time.monotonic())
    moment = datetime.fromisoformat((Path(__file__).parent / "moment").read_text())
    return moment + timedelta(seconds=begun[-1] - begun[0])


plugin = Triggers(clock)
"""
"""A clock that shows the moment in the file when it is first looked at, however long the engine takes to get there."""


@pytest.mark.sqlite  # its clock is that of a second plugin with the same tables, which a prepared database has
@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_each_moment_makes_one_task_though_the_engine_is_killed(tmp_path: Path) -> None:
    install(tmp_path / "plugins", "clocked", CLOCKED)
    info = next((tmp_path / "plugins").glob("*.dist-info")) / "entry_points.txt"
    info.write_text(info.read_text().strip() + ":plugin\n")
    settings = {
        "BYTEBREW_PLUGINS_DIR": str(tmp_path / "plugins"),
        "BYTEBREW_DISABLED_PLUGINS": "triggers",
        "BYTEBREW_TASK_WORKERS": "0",
    }
    headers = {"Authorization": f"Bearer {ADMIN}"}
    rounds, chance = 8, random.Random(11)
    boundary = datetime(2030, 1, 1, tzinfo=UTC)

    def at(moment: datetime) -> None:
        """The next engine's clock."""
        (tmp_path / "plugins" / "moment").write_text(moment.isoformat())

    async def there_are(client: httpx.AsyncClient, count: int) -> None:
        """What was missed is made up for; moments that are missed together would be one task."""
        with anyio.fail_after(10):
            while len(await tasks(client, "schedule")) < count:
                await anyio.sleep(0.01)

    at(boundary - timedelta(seconds=30))
    with serving(tmp_path / "data", settings) as process:
        async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=30) as client:
            body = {"name": "tea", "cron": "* * * * *", "missed": "once", "agent": "demo"}
            assert (await client.post(SCHEDULES, json=body)).status_code == 201
        process.kill()
    for n in range(rounds):
        at(boundary + timedelta(minutes=n) - timedelta(seconds=0.5))
        with serving(tmp_path / "data", settings) as process:
            async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=30) as client:
                await there_are(client, n)
            await anyio.sleep(chance.uniform(0.0, 0.8))
            process.kill()
    at(boundary + timedelta(minutes=rounds) - timedelta(seconds=30))
    with serving(tmp_path / "data", settings) as process:
        async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=30) as client:
            await there_are(client, rounds)
            await anyio.sleep(0.3)
            found = await tasks(client, "schedule")
            schedule = (await client.get(f"{SCHEDULES}/tea")).json()
    assert len(found) == rounds
    assert schedule["next_at"] == (boundary + timedelta(minutes=rounds)).strftime("%Y-%m-%dT%H:%M:%SZ")


# Webhooks


def signed(body: bytes, moment: datetime | str = NOON, secret: str = SECRET) -> dict[str, str]:
    """The headers of a request that its sender has signed."""
    stamp = moment if isinstance(moment, str) else str(int(moment.timestamp()))
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": f"sha256={digest}"}


async def send(
    client: httpx.AsyncClient, body: bytes = b"{}", headers: Mapping[str, str] | None = None, name: str = "orders"
) -> httpx.Response:
    """A request of somebody who has no token."""
    async with httpx.AsyncClient(base_url=client.base_url, timeout=30) as stranger:
        return await stranger.post(f"{WEBHOOKS}/{name}", content=body, headers=headers or signed(body))


async def test_a_signed_request_makes_a_task() -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET, title="Order {{body.id}}", message="See {{ body }}")
        body = json.dumps({"id": 7, "items": ["tea"]}).encode()
        answer = await send(client, body)
        [task] = await tasks(client, "webhook")
        assert (answer.status_code, answer.json()) == (202, {"task_id": task["id"], "status": "pending"})
        assert (task["title"], task["description"]) == ("Order 7", f"See {body.decode()}")
        webhook = (await client.get(f"{WEBHOOKS}/orders")).json()
        assert (webhook["last_task_id"], webhook["last_error"]) == (task["id"], None)


async def deliveries(client: httpx.AsyncClient, name: str = "orders") -> list[tuple[int, str | None, str | None]]:
    """What the last requests were answered, newest first."""
    answer = await client.get(f"{WEBHOOKS}/{name}/deliveries")
    assert answer.status_code == 200, answer.text
    return [(one["status"], one["reason"], one["task_id"]) for one in answer.json()]


async def test_deliveries_say_what_came_of_each_request() -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        await made(client, WEBHOOKS, name="quiet", secret=SECRET)
        task_id = (await send(client)).json()["task_id"]
        replayed = check_refusal(await send(client))["message"]
        unsigned = check_refusal(await send(client, headers=signed(b"{}", secret=SECRET + "!")))["message"]
        late = check_refusal(await send(client, headers=signed(b"{}", NOON - timedelta(hours=1))))["message"]
        await client.patch(f"{WEBHOOKS}/orders", json={"enabled": False})
        disabled = check_refusal(await send(client, b"[]"))["message"]
        expected = [(404, disabled), (401, late), (401, unsigned), (409, replayed)]
        assert await deliveries(client) == [*((*one, None) for one in expected), (202, None, task_id)]
        assert await deliveries(client, "quiet") == []
        refused_as(await client.get(f"{WEBHOOKS}/nothing/deliveries"), 404, "not_found")


async def test_the_last_50_signed_deliveries_are_kept_whatever_strangers_send() -> None:
    async with engine_at(Clock()) as (engine, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        for n in range(53):
            await send(client, str(n).encode())
        stored = await engine.db.read(lambda conn: conn.execute("select count(*) from triggers_deliveries").fetchone())
        assert stored[0] == 50
        found = await deliveries(client)
        assert [one[2] for one in found] == [task["id"] for task in (await tasks(client))[:2:-1]]
        await client.delete(f"{WEBHOOKS}/orders")
        stored = await engine.db.read(lambda conn: conn.execute("select count(*) from triggers_deliveries").fetchone())
        assert stored[0] == 0


async def test_a_body_of_any_kind_is_taken_as_it_is() -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        for body in (b"", b"a=1&b=2", b"\xff\x00", b"[" * 5000, b"[1, 2]", b'"\\ud800"'):
            assert (await send(client, body)).status_code == 202
        found = [(task["title"], task["description"]) for task in await tasks(client)]
        assert found[:2] == [("orders", ""), ("orders", "a=1&b=2")]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{body}}", '{"a": {"b": [1, {"c": "d"}]}, "e-f": null, "body": "x"}'),
        ("{{body.a.b.0}} {{body.a.b.1.c}}", "1 d"),
        ("{{body.a.b}}", '[1,{"c":"d"}]'),
        ("<{{body.e-f}}{{body.nothing}}{{body.a.b.7}}{{body.a.b.x}}{{body.a.b.-1}}>", "<>"),
        ("{{body.body}}", "x"),
        ("{{id}} {{ body.a.b.0 }} {{body", "{{id}} 1 {{body"),
    ],
)
def test_a_template_is_filled_from_the_body(template: str, text: str) -> None:
    assert rendered(template, b'{"a": {"b": [1, {"c": "d"}]}, "e-f": null, "body": "x"}') == text


def test_a_body_of_any_depth_is_taken() -> None:
    for depth in range(700, 1010):
        rendered("{{body.a}}", b'{"a": ' + b"[" * depth + b"]" * depth + b"}")


def test_what_a_body_says_is_no_template() -> None:
    assert rendered("{{body.a}}{{body.b}}", b'{"a": "{{body.b}}", "b": "{{body.a}}"}') == "{{body.b}}{{body.a}}"


async def test_long_words_are_cut() -> None:
    async with engine_at(Clock()) as (_, client):
        fields = {"title": "{{body.t}}", "message": "{{body.m}}"}
        await made(client, WEBHOOKS, name="orders", secret=SECRET, **fields)
        await send(client, json.dumps({"t": "x \n" * 300, "m": "m" * 100_000}).encode())
        [task] = await tasks(client)
        assert (len(task["title"]), len(task["description"])) == (256, 65_536)
        assert "\n" not in task["title"]


GOOD = signed(b"{}")


@pytest.fixture(scope="module")
async def orders() -> AsyncIterator[httpx.AsyncClient]:
    """The client of an engine with one webhook."""
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"x_webhook_signature": ""},
        {"x_webhook_signature": "sha256="},
        {"x_webhook_signature": "sha256=" + "0" * 64},
        {"x_webhook_signature": GOOD["X-Webhook-Signature"].removeprefix("sha256=")},
        {"x_webhook_signature": GOOD["X-Webhook-Signature"].replace("sha256", "sha1")},
        {"x_webhook_signature": f"sha256={SECRET}"},
        {"x_webhook_signature": signed(b"{} ")["X-Webhook-Signature"]},
        {"x_webhook_signature": signed(b"{}", secret=SECRET + "!")["X-Webhook-Signature"]},
        {"x_webhook_signature": signed(b"{}", NOON + timedelta(seconds=1))["X-Webhook-Signature"]},
        {"x_webhook_signature": "sha256=\xe9"},
        {"x_webhook_timestamp": ""},
        {"x_webhook_timestamp": "noon"},
        {"x_webhook_timestamp": "-1"},
        {"x_webhook_timestamp": "9" * 13},
        {"x_webhook_timestamp": "\xb2"},
        {"x_webhook_timestamp": str(int(NOON.timestamp()) + 1)},
    ],
)
async def test_a_wrong_signature_is_refused(orders: httpx.AsyncClient, headers: dict[str, str]) -> None:
    encoded = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    given = {name.lower().encode(): value.encode() for name, value in GOOD.items()} | encoded
    async with httpx.AsyncClient(base_url=orders.base_url, timeout=30) as stranger:
        refused = await stranger.post(f"{WEBHOOKS}/orders", content=b"{}", headers=list(given.items()))
    refused_as(refused, 401, "unauthorized")
    assert SECRET not in refused.text
    assert "www-authenticate" in refused.headers
    assert await tasks(orders) == []


@pytest.mark.parametrize(("seconds", "status"), [(-301, 401), (-300, 202), (0, 202), (300, 202), (301, 401)])
async def test_an_old_and_a_future_timestamp_are_refused(seconds: int, status: int) -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        answer = await send(client, b"{}", signed(b"{}", NOON + timedelta(seconds=seconds)))
        assert answer.status_code == status
        assert len(await tasks(client)) == (1 if status == 202 else 0)


async def test_the_window_is_a_setting() -> None:
    async with engine_at(Clock(), BYTEBREW_WEBHOOK_WINDOW="10s") as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        refused = await send(client, b"{}", signed(b"{}", NOON - timedelta(seconds=11)))
        refused_as(refused, 401, "unauthorized")


async def test_a_replayed_request_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with engine_at(clock, tmp_path) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        ahead = signed(b"{}", NOON + timedelta(seconds=300))
        assert (await send(client, b"{}", ahead)).status_code == 202
        refused_as(await send(client, b"{}", ahead), 409, "replayed")
        upper = {**ahead, "X-Webhook-Signature": "sha256=" + ahead["X-Webhook-Signature"][7:].upper()}
        refused_as(await send(client, b"{}", upper), 409, "replayed")
    clock.moment = NOON + timedelta(seconds=599)
    async with engine_at(clock, tmp_path) as (engine, client):
        refused_as(await send(client, b"{}", ahead), 409, "replayed")
        clock.moment = NOON + timedelta(seconds=601)
        refused_as(await send(client, b"{}", ahead), 401, "unauthorized")
        assert (await send(client, b"[]", signed(b"[]", clock.moment))).status_code == 202
        clock.moment = NOON + timedelta(seconds=599)  # it was set back
        refused_as(await send(client, b"{}", ahead), 409, "replayed")
        clock.moment = NOON + timedelta(hours=2)
        assert (await send(client, b"[]", signed(b"[]", clock.moment))).status_code == 202
        assert len(await tasks(client)) == 3
        count = await engine.db.read(lambda conn: conn.execute("select count(*) from triggers_signatures").fetchone())
        assert count[0] == 1, "what has long expired is forgotten"


async def test_one_of_racing_replays_makes_the_task() -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        statuses: list[int] = []

        async def run() -> None:
            statuses.append((await send(client)).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(run)
        assert sorted(statuses) == [202] + [409] * 19
        assert len(await tasks(client)) == 1


async def test_a_body_over_the_limit_is_refused() -> None:
    async with engine_at(Clock(), BYTEBREW_MAX_BODY_BYTES="2000") as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        assert (await send(client, b"x" * 2000)).status_code == 202
        refused_as(await send(client, b"x" * 2001), 413, "payload_too_large")


async def test_a_disabled_webhook_is_not_there_until_it_is_enabled() -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET, enabled=False)
        refused_as(await send(client), 404, "not_found")
        await client.patch(f"{WEBHOOKS}/orders", json={"enabled": True})
        assert (await send(client)).status_code == 202


@pytest.mark.parametrize("body", [b"{}", b"x" * 3000], ids=["small", "large"])
@pytest.mark.parametrize(
    "headers",
    [{"X-Webhook-Signature": ""}, signed(b"{}", "1"), signed(b"{}", secret="what-somebody-guesses")],
    ids=["none", "old", "bad"],
)
async def test_a_stranger_does_not_learn_which_webhooks_there_are(headers: dict[str, str], body: bytes) -> None:
    async with engine_at(Clock(), BYTEBREW_MAX_BODY_BYTES="2000") as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        await made(client, WEBHOOKS, name="rests", secret=SECRET, enabled=False)
        await made(client, WEBHOOKS, name="unset", secret="${NO_SUCH_SECRET}")
        nowhere, *there = [await send(client, body, headers, name) for name in ("none", "orders", "rests", "unset")]
        assert nowhere.status_code in (401, 413)
        assert {(one.status_code, one.text) for one in there} == {(nowhere.status_code, nowhere.text)}


@pytest.mark.parametrize("secret", ["${HOOK_SECRET:-}", "${HOOK_SECRET:-short}", "${HOOK_SECRET}", "${x"])
@pytest.mark.parametrize("value", [None, "", "fifteen-letters"])
async def test_a_secret_that_is_unset_or_short_when_it_is_needed_opens_nothing(
    secret: str, value: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if value is not None:
        monkeypatch.setenv("HOOK_SECRET", value)
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=secret)
        for guess in ("", "short", "fifteen-letters", secret):
            refused_as(await send(client, b"{}", signed(b"{}", secret=guess)), 401, "unauthorized")
        assert await tasks(client) == []
    assert "webhook orders takes no request" in caplog.text


async def test_what_has_lost_its_agent_can_be_laid_to_rest() -> None:
    async with engine_at(Clock()) as (_, client):
        await client.post("/api/v1/agents", json={"name": "spare", "model": "test"})
        await made(client, SCHEDULES, name="tea", cron="5 12 * * *", agent="spare")
        await made(client, WEBHOOKS, name="orders", secret=SECRET, agent="spare")
        await client.delete("/api/v1/agents/spare")
        for url in (f"{SCHEDULES}/tea", f"{WEBHOOKS}/orders"):
            assert (await client.patch(url, json={"enabled": False})).status_code == 200
            refused_as(await client.patch(url, json={"enabled": True}), 422, "unprocessable", "$.agent")
            assert (await client.patch(url, json={"enabled": True, "agent": "test"})).status_code == 200


async def test_a_webhook_without_its_agent_says_so_and_can_be_sent_again() -> None:
    async with engine_at(Clock()) as (_, client):
        await client.post("/api/v1/agents", json={"name": "spare", "model": "test"})
        await made(client, WEBHOOKS, name="orders", secret=SECRET, agent="spare")
        await client.delete("/api/v1/agents/spare")
        refused_as(await send(client), 422, "unprocessable")
        assert (await client.get(f"{WEBHOOKS}/orders")).json()["last_error"] == "There is no agent 'spare'"
        await client.post("/api/v1/agents", json={"name": "spare", "model": "test"})
        assert (await send(client)).status_code == 202


async def test_a_secret_is_shown_once_and_lies_sealed(tmp_path: Path) -> None:
    async with engine_at(Clock(), tmp_path) as (_, client):
        secret = (await made(client, WEBHOOKS, name="orders"))["secret"]
        assert len(secret) == 50
        for answer in (
            await client.get(WEBHOOKS),
            await client.get(f"{WEBHOOKS}/orders"),
            await client.patch(f"{WEBHOOKS}/orders", json={"title": "t", "secret": ""}),
            await client.get(f"{CONFIG}/export"),
        ):
            assert secret not in answer.text
        assert (await send(client, b"{}", signed(b"{}", secret=secret))).status_code == 202
        await client.put(f"{WEBHOOKS}/orders", json={"secret": SECRET})
        refused_as(await send(client, b"1", signed(b"1", secret=secret)), 401, "unauthorized")
        assert (await send(client, b"1")).status_code == 202
        short = await client.patch(f"{WEBHOOKS}/orders", json={"secret": "short"})
        refused_as(short, 400, "invalid_request", "$.secret")
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("bytebrew.db*"))
    assert secret.encode() not in raw
    assert SECRET.encode() not in raw


async def test_a_trigger_with_an_idempotency_key_is_made_once() -> None:
    async with engine_at(Clock()) as (_, client):
        for url, body in ((SCHEDULES, {"name": "tea", "cron": "0 9 * * *"}), (WEBHOOKS, {"name": "orders"})):
            headers = {"idempotency-key": "k"}
            answers = [await client.post(url, json={**body, "agent": "test"}, headers=headers) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [201, 201]
            assert answers[0].content == answers[1].content


async def test_triggers_need_the_scope_config() -> None:
    async with engine_at(Clock()) as (engine, client):
        weak = await token_with(engine, "tasks", "chat", name="weak")
        operator = await token_with(engine, "config", "tasks", name="operator")
        for url, body in (
            (SCHEDULES, {"name": "tea", "cron": "0 9 * * *", "agent": "test"}),
            (WEBHOOKS, {"name": "orders", "agent": "test", "secret": SECRET}),
        ):
            bearer = {"authorization": f"Bearer {weak.token}"}
            refused_as(await client.post(url, json=body, headers=bearer), 403, "forbidden")
            refused_as(await client.get(url, headers=bearer), 403, "forbidden")
            bearer = {"authorization": f"Bearer {operator.token}"}
            assert (await client.post(url, json=body, headers=bearer)).status_code == 201
        assert (await send(client)).status_code == 202
        mine = (await client.get("/api/v1/tasks", headers=bearer)).json()
        assert [task["title"] for task in mine["tasks"]] == ["orders"]


# The configuration file


YAML = """
agents:
  clerk: {model: test}
schedules:
  tea:
    cron: 0 9 * * MON-FRI
    timezone: Europe/Berlin
    agent: clerk
    missed: once
webhooks:
  orders:
    agent: clerk
    secret: ${ORDERS_SECRET}
"""


async def test_triggers_come_out_of_a_file_and_go_into_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_SECRET", SECRET)
    headers = {"content-type": "application/x-yaml"}
    async with engine_at(Clock()) as (_, client):
        answer = await client.post(f"{CONFIG}/import", content=YAML, headers=headers)
        assert answer.status_code == 200, answer.text
        tea = (await client.get(f"{SCHEDULES}/tea")).json()
        assert (tea["next_at"], tea["missed"], tea["agent"]) == ("2026-03-23T08:00:00Z", "once", "clerk")
        assert (await send(client)).status_code == 202
        exported = (await client.get(f"{CONFIG}/export")).text
        assert "secret: ${ORDERS_SECRET}" in exported
        assert SECRET not in exported
        again = await client.post(f"{CONFIG}/import", content=exported, headers=headers)
        assert again.status_code == 200, again.text
        assert (await client.get(f"{CONFIG}/export")).text == exported
        changed = YAML.replace("0 9 * * MON-FRI", "0 10 * * *")
        assert (await client.post(f"{CONFIG}/import", content=changed, headers=headers)).status_code == 200
        assert (await client.get(f"{SCHEDULES}/tea")).json()["next_at"] == "2026-03-21T09:00:00Z"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("0 9 * * MON-FRI", "never", "$.schedules.tea.cron"),
        ("    secret: ${ORDERS_SECRET}\n", "", "$.webhooks.orders.secret"),
        ("cron: 0 9 * * MON-FRI\n", "\n", "$.schedules.tea"),
    ],
)
async def test_a_fault_in_the_file_is_told_with_its_line(
    old: str, new: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_SECRET", SECRET)
    async with engine_at(Clock()) as (_, client):
        headers = {"content-type": "application/x-yaml"}
        answer = await client.post(f"{CONFIG}/import", content=YAML.replace(old, new), headers=headers)
        [detail] = check_refusal(answer)["details"]
        assert answer.status_code in (400, 422)
        assert detail["path"] == path
        assert detail["line"] > 1
        assert (await client.get(SCHEDULES)).json() == []


async def owners(engine: Engine) -> list[str]:
    """Whose the tasks of schedules and webhooks are."""
    sql = "select owner from triggers_schedules union all select owner from triggers_webhooks"
    return [row["owner"] for row in await engine.db.read(lambda conn: conn.execute(sql).fetchall())]


async def test_what_somebody_has_changed_is_done_with_their_access() -> None:
    async with engine_at(Clock()) as (engine, client):
        await made(client, SCHEDULES, name="daily", cron="0 9 * * *")
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        first = await owners(engine)
        headers = {"Authorization": f"Bearer {(await token_with(engine, 'config')).token}"}
        document = (await client.get(f"{CONFIG}/export")).text
        kind = {"Content-Type": "application/yaml"}
        for path in (f"{SCHEDULES}/daily", f"{WEBHOOKS}/orders"):
            for enabled in (False, True):
                assert (await client.patch(path, json={"enabled": enabled}, headers=headers)).status_code == 200
        imported = await client.post(f"{CONFIG}/import", content=document, headers=headers | kind)
        assert imported.status_code == 200, imported.text
        assert await owners(engine) == first, "what the tasks do is as it was"
        assert (await client.patch(f"{SCHEDULES}/daily", json={"message": "More"}, headers=headers)).status_code == 200
        assert (await client.patch(f"{WEBHOOKS}/orders", json={"secret": SECRET}, headers=headers)).status_code == 200
        [daily, orders] = await owners(engine)
        assert (daily != first[0], orders) == (True, first[1])
        assert (
            await client.patch(f"{WEBHOOKS}/orders", json={"secret": SECRET * 2}, headers=headers)
        ).status_code == 200
        assert await owners(engine) == [daily, daily]
