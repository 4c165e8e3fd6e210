"""An engine that is killed around changes over the API: each change in the file has its one entry in the audit."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.faults.test_fault_harness import EVERY, Engines
from tests.stored import opened

BASE = {"agents": {"name": "base"}, "schemas": {"name": "base", "entry_agent": "base"}}
MADE: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "agents": ("agent", lambda name: {"name": name}),
    "models": ("model", lambda name: {"name": name, "type": "ollama", "model_name": "x"}),
    "schemas": ("schema", lambda name: {"name": name, "entry_agent": "base"}),
    "auth/tokens": ("token", lambda name: {"name": name, "scopes": ["chat"]}),
    "tasks": ("task", lambda name: {"title": name, "agent": "base", "require_approval": True}),
    "tools": ("tool", lambda name: {"name": name, "url": "http://127.0.0.1:1/"}),
    "rate-limits": ("rate_limit", lambda name: {"name": name, "key_header": name, "tiers": {"all": {"requests": 5}}}),
    "budgets": ("budget", lambda name: {"name": name, "tokens": 5, "window": "day"}),
    "schedules": ("schedule", lambda name: {"name": name, "cron": "0 9 1 1 *", "agent": "base"}),
    "webhooks": ("webhook", lambda name: {"name": name, "agent": "base"}),
    "callbacks": ("callback", lambda name: {"name": name, "url": "https://x.test/", "events": ["task.ended"]}),
    "knowledge-bases": ("kb", lambda name: {"name": name}),
    "mcp-servers": ("mcp", lambda name: {"name": name, "url": "http://127.0.0.1:1/", "enabled": False}),
}
"""What is made: the noun of its entries, and a body for a name."""
SEEN = """select resource_type || ' ' || resource_id as what from audit_changes where action = resource_type || ?
  and resource_id <> 'base'"""


class Client:
    """Makes and removes things, and sends each request until it is answered."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.made: set[str] = set()
        self.removed: set[str] = set()
        self._up = asyncio.Lock()
        self._starts = 0

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer of the engine that lives to give it."""
        while True:
            starts = self._starts
            try:
                return await self.engines.client.request(method, f"/api/v1/{path}", **more)
            except httpx.TransportError:
                await self._restart(starts)

    async def _restart(self, starts: int) -> None:
        async with self._up:
            if starts == self._starts:  # of all whose requests were lost, one
                await self.engines.dead()
                await self.engines.start()
                self._starts += 1

    async def make(self, path: str, name: str) -> tuple[str, str]:
        noun, body = MADE[path]
        answer = await self.send("POST", path, json=body(name), headers={"Idempotency-Key": name})
        assert answer.status_code == 201, answer.text
        again = await self.send("POST", path, json=body(name), headers={"Idempotency-Key": name})
        assert (again.status_code, again.content) == (201, answer.content)
        key = answer.json()["id"] if noun in ("token", "task", "kb") else name
        self.made.add(f"{noun} {key}")
        return path, key

    async def remove(self, path: str, key: str) -> None:
        answer = await self.send("DELETE", f"{path}/{key}")
        assert answer.status_code in (204, 404), answer.text
        self.removed.add(f"{MADE[path][0]} {key}")


@asynccontextmanager
async def client_in(folder: Path) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        engines = Engines(folder, http)
        await engines.start()
        try:
            for path, body in BASE.items():
                assert (await http.post(f"/api/v1/{path}", json=body)).status_code == 201
            yield Client(engines)
        finally:
            await engines.kill()


def entries(client: Client, verb: str) -> Counter[str]:
    """How many entries there are of each thing that was made or removed."""
    with opened(client.engines.data) as conn:
        return Counter(row["what"] for row in conn.execute(SEEN, (verb,)))


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_every_change_has_its_one_entry_whenever_the_engine_is_killed(side: str, tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        for at in range(1, 41, min(EVERY, 4)):
            assert (await client.engines.client.get(f"/doom/{side}/{at}")).status_code == 204
            made = await asyncio.gather(*(client.make(path, f"{side}-{at}") for path in MADE))
            await asyncio.gather(*(client.remove(*one) for one in made if at % 2))
            with anyio.fail_after(30):
                await client.send("GET", "agents")
        assert client.engines.kills >= 5
        assert entries(client, ".create") == Counter(client.made)
        removed = entries(client, ".revoke") + entries(client, ".delete") + entries(client, ".cancel")
        assert set(removed) == client.removed
        # a task that was cancelled may be cancelled once more, which is another act
        assert all(count == 1 for what, count in removed.items() if not what.startswith("task "))


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_repeat_after_a_kill_between_the_commit_and_the_answer_is_answered_and_has_its_entry(
    tmp_path: Path,
) -> None:
    async with client_in(tmp_path) as client:
        between = 0
        for at in (1, 2, 3):
            name = f"agent-{at}"
            key = {"Idempotency-Key": name}
            assert (await client.engines.client.get(f"/doom/after/{at}")).status_code == 204
            try:
                await client.engines.client.post("/api/v1/agents", json={"name": name}, headers=key)
            except httpx.TransportError:
                await client.engines.dead()
                with opened(client.engines.data) as conn:
                    between += bool(conn.execute("select 1 from agents where name = ?", (name,)).fetchone())
                await client.engines.start()
            again = await client.send("POST", "agents", json={"name": name}, headers=key)
            assert (again.status_code, again.json()["name"]) == (201, name)
            assert entries(client, ".create")[f"agent {name}"] == 1
        assert between
