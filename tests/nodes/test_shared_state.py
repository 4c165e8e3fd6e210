"""What was in the memory of one process holds over all nodes: keys, locks, settings, credentials, duties."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from bytebrew_auth_local.sessions import MODE
from bytebrew_auth_local.settings import Local
from bytebrew_budgets import store
from bytebrew_budgets.definition import TOKEN_RATE

from bytebrew.base.errors import BootError
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, Step, providing, scripted_schema
from tests.nodes.engines import Node, nodes

pytestmark = pytest.mark.postgresql


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    with anyio.fail_after(seconds):
        while not await holds():
            await asyncio.sleep(0.02)


async def test_a_key_that_comes_to_two_nodes_at_once_creates_one_thing_and_has_one_answer() -> None:
    async with nodes((), ()) as [first, second]:
        body = {"name": "made-once", "scopes": ["chat"]}
        for n in range(8):
            headers = {"Idempotency-Key": f"key-{n}"}
            sent = {**body, "name": f"made-{n}"}
            answers = await asyncio.gather(
                *(one.http.post("/api/v1/auth/tokens", json=sent, headers=headers) for one in (first, second) * 2)
            )
            assert {answer.status_code for answer in answers} == {201}
            assert len({answer.text for answer in answers}) == 1
        stored = (await first.http.get("/api/v1/auth/tokens")).json()
        assert sorted(one["name"] for one in stored) == ["bootstrap-admin", *(f"made-{n}" for n in range(8))]
        assert not await first.engine.db.read(_locks)


async def test_a_lock_excludes_the_blocks_of_other_nodes_until_its_node_ends() -> None:
    async with nodes((), ()) as [first, second]:
        inside, most = 0, 0

        async def work(node: Node) -> None:
            nonlocal inside, most
            async with node.engine.lock("work"):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.01)
                inside -= 1

        await asyncio.gather(*(work(node) for node in (first, second) * 5))
        assert most == 1
        taken, free = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with first.engine.lock("held"):
                taken.set()
                await free.wait()

        holding = asyncio.create_task(hold())
        await taken.wait()
        waiting = asyncio.create_task(_entered(second, "held"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        holding.cancel()
        with anyio.fail_after(10):
            await waiting


async def _entered(node: Node, name: str) -> None:
    async with node.engine.lock(name):
        pass


def _locks(conn: Connection) -> list[str]:
    return [row["name"] for row in conn.execute("select name from node_locks")]


async def test_a_setting_counts_on_every_node_within_a_second() -> None:
    async with nodes((), ()) as [first, second]:
        seen = asyncio.Queue[object]()
        second.engine.options.watch("widget.origins", seen.put_nowait)
        assert await seen.get() is not None
        answer = await first.http.put("/api/v1/settings/widget.origins", json={"value": ["https://a.example"]})
        assert answer.status_code == 200, answer.text
        with anyio.fail_after(1.5):
            assert "https://a.example" in str(await seen.get())


async def test_a_revoked_token_is_refused_on_every_node_at_once() -> None:
    async with nodes((), ()) as [first, second]:
        made = (await first.http.post("/api/v1/auth/tokens", json={"name": "one", "scopes": ["config"]})).json()
        headers = {"Authorization": f"Bearer {made['token']}"}
        assert (await second.http.get("/api/v1/rate-limits", headers=headers)).status_code == 200
        assert (await first.http.delete("/api/v1/auth/tokens/one")).status_code == 204
        assert (await second.http.get("/api/v1/rate-limits", headers=headers)).status_code == 401


async def test_a_schedule_that_another_node_has_stored_fires_on_the_leader_and_once() -> None:
    async with nodes((), ()) as [first, second]:
        assert (first.engine.node.leads, second.engine.node.leads) == (True, False)
        await second.http.post("/api/v1/models", json={"name": "m", "type": "demo", "model_name": "demo"})
        await second.http.post("/api/v1/agents", json={"name": "worker", "model": "m"})
        made = await second.http.post(
            "/api/v1/schedules", json={"name": "soon", "cron": "* * * * *", "agent": "worker", "message": "Work"}
        )
        assert made.status_code == 201, made.text
        await second.engine.db.write(_due, (datetime.now(UTC) + timedelta(seconds=0.5)).timestamp())
        second.engine.duties.wake("schedules")

        async def fired() -> bool:
            return bool((await second.http.get("/api/v1/schedules/soon")).json()["last_task_id"])

        await until(fired)
        assert await second.engine.db.read(_tasks) == 1


def _due(conn: Connection, moment: float) -> None:
    conn.execute("update triggers_schedules set next_at = ?", (moment,))


def _tasks(conn: Connection) -> int:
    return int(conn.execute("select count(*) from tasks where source = 'schedule'").fetchone()[0])


async def test_a_limit_is_exact_over_all_nodes_and_a_rule_counts_on_all_within_a_second() -> None:
    async with nodes((), ()) as [first, second]:
        rule = {"name": "ten", "per": "subject", "tiers": {"all": {"requests": 10, "window": "1h"}}}
        assert (await first.http.post("/api/v1/rate-limits", json=rule)).status_code == 201

        async def follows() -> bool:
            return any(guard.active for guard in second.engine.guards)

        await until(follows, 1.5)
        answers = await asyncio.gather(*(one.http.get("/api/v1/tasks") for _ in range(15) for one in (first, second)))
        passed = [one for one in answers if one.status_code == 200]
        assert len(passed) == 10
        assert sorted(int(one.headers["x-ratelimit-remaining"]) for one in passed) == [*range(10)]
        refused = next(one for one in answers if one.status_code == 429)
        assert 3590 < refused.json()["retry_after"] <= 3600


async def test_the_values_of_a_key_header_are_bounded_for_each_token_over_all_nodes() -> None:
    async with nodes((), ()) as [first, second]:
        tiers = {"all": {"requests": 2, "window": "1h"}}
        rule = {"name": "keys", "key_header": "X-Org", "keys_per_caller": 2, "tiers": tiers}
        assert (await first.http.post("/api/v1/rate-limits", json=rule)).status_code == 201
        await second.engine.sections["rate_limits"].changed(second.engine)
        made = (await first.http.post("/api/v1/auth/tokens", json={"name": "one", "scopes": ["tasks"]})).json()
        token = {"Authorization": f"Bearer {made['token']}"}
        found = []
        for n in range(6):  # two values have windows of their own, all further ones that of the token
            node = (first, second)[n % 2]
            answer = await node.http.get("/api/v1/tasks", headers={"X-Org": f"value-{n}", **token})
            found.append(answer.status_code)
        assert found == [200, 200, 200, 200, 429, 429]
        usage = await second.http.get("/api/v1/rate-limits/usage?key_header=x-org&key_value=value-0")
        assert usage.json()["used"] == 1


async def test_the_nodes_are_listed_and_the_oldest_leads() -> None:
    async with nodes((), ()) as [first, second]:
        for answering, index in ((first, 0), (second, 1)):
            data = (await answering.http.get("/api/v1/nodes")).json()["data"]
            assert [one["id"] for one in data] == [first.engine.node.id, second.engine.node.id]
            assert [one["leads"] for one in data] == [True, False]
            assert all(0 <= one["silent_seconds"] < 10 for one in data)
            assert [n for n, one in enumerate(data) if one["answers"]] == [index]


async def test_what_a_call_of_a_live_node_holds_of_a_budget_is_not_counted_as_lost() -> None:
    async with nodes((), ()) as [first, second]:
        await first.http.post("/api/v1/budgets", json={"name": "cap", "per": "all", "tokens": 1000, "window": "day"})
        await first.engine.db.write(_hold, "live", second.engine.node.id)
        await first.engine.db.write(_hold, "lost", 10**6)
        await first.engine.db.write(lambda conn: store.settle_lost(conn))
        assert await first.engine.db.read(_held) == ["live"]


def _hold(conn: Connection, call: str, node: int | None) -> None:
    bound = store.Bound(store.get(conn, "cap").id, "cap", "tokens", "", "2026-01-01T00:00:00Z")
    held = store.hold(conn, call, "turn", {bound: TOKEN_RATE}, 10, 50, node)
    assert isinstance(held, store.Held)


def _held(conn: Connection) -> list[str]:
    return [row["call"] for row in conn.execute("select call from budgets_reserved")]


async def test_a_node_with_another_key_does_not_start_beside_one_that_runs() -> None:
    async with nodes((), ()) as (first, second):
        await second.stop()
        data = second.engine.data_dir
        (data / "keys" / "secrets.key").write_text("5a" * 32)
        url = first.engine.settings.core.database_url
        environment = {"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_DATABASE_URL": url}
        with pytest.raises(BootError, match=f"not that of node {first.engine.node.id}, .*copy that node's folder keys"):
            async with Engine(environment):
                pass
        await first.stop()
        async with Engine(environment):  # nothing that it could not open is stored
            pass


async def test_a_local_session_of_one_node_is_good_on_the_others() -> None:
    async with nodes((), ()) as [first, second]:
        mode, other = first.engine.state[MODE], second.engine.state[MODE]
        session = await mode.open(first.engine.settings.of(Local))
        actor = await other.authenticate(session.access_token)
        assert actor is not None
        assert actor.is_admin


async def test_a_person_is_forgotten_by_the_leader_and_the_node_that_was_asked_says_so() -> None:
    async with nodes((), ()) as [_, second]:
        answer = await second.http.delete("/api/v1/users/ann")
        assert (answer.status_code, answer.json()["status"]) == (200, "done")
        assert not second.engine.node.leads


async def test_running_nodes_go_on_once_a_newer_version_has_migrated_and_an_older_one_does_not_start() -> None:
    async with nodes((), ()) as [first, second]:
        await second.engine.db.write(_migrate)
        created = await first.http.post("/api/v1/models", json={"name": "m", "type": "demo", "model_name": "demo"})
        assert created.status_code == 201
        assert "m" in {one["name"] for one in (await second.http.get("/api/v1/models")).json()}
        data = first.engine.data_dir.parent / "older"
        shutil.copytree(first.engine.data_dir / "keys", data / "keys")
        url = first.engine.settings.core.database_url
        off = {"BYTEBREW_DISABLED_PLUGINS": "knowledge,memory"}
        older = Engine({"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_DATABASE_URL": url, **off})
        with pytest.raises(BootError, match="the database is newer than this core: it has migration"):
            async with older:
                pass


def _migrate(conn: Connection) -> None:
    """As a newer version: a further migration, which adds what the version before does not know."""
    number = conn.execute("select max(number) from migrations where owner = 'core'").fetchone()[0] + 1
    conn.execute("alter table models add column newer text not null default ''")
    sql = "insert into migrations (owner, number, applied_at, digest) values ('core', ?, '2027-01-01T00:00:00Z', '')"
    conn.execute(sql, (number,))


async def test_tasks_that_a_node_has_no_worker_for_run_on_another_at_once() -> None:
    gate = asyncio.Event()
    script: list[Step] = [gate, MessageDelta(content="done")]
    scripted = [providing(ScriptedProvider(script))], [providing(ScriptedProvider(script))]
    async with nodes(*scripted, settings={"BYTEBREW_TASK_WORKERS": "1"}) as [first, second]:
        await scripted_schema(first.engine, "worker")
        for n in range(2):
            made = await first.http.post("/api/v1/tasks", json={"agent": "worker", "title": f"Task {n}"})
            assert made.status_code == 201, made.text

        async def both_run() -> bool:
            return len(first.engine.turns) == len(second.engine.turns) == 1

        await until(both_run, 10)
        gate.set()
