"""A real engine whose wall clock is set far ahead and back: all goes on at its times, and nothing is lost."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.base.formats import new_uuid
from bytebrew.base.sse_reader import Parser
from bytebrew.testing import ADMIN
from tests.commands import install
from tests.faults.clock import DAY, Clock
from tests.processes import Process, serving
from tests.store.test_removals import grow
from tests.stored import changed, opened

AHEAD = 400 * DAY
HEADERS = {"Authorization": f"Bearer {ADMIN}"}
FLAKY = '''
"""A model that is overloaded when it is first sent a message."""
from bytebrew import MessageDelta, Provider, ProviderError, Stop, Usage, hookimpl

class Flaky(Provider):
    type = "flaky"

    def __init__(self):
        self.known = set()

    async def stream(self, request, http):
        message = request.messages[-1].content
        if message.startswith("flaky") and message not in self.known:
            self.known.add(message)
            raise ProviderError("too busy", code="model_overloaded")
        yield MessageDelta(content="ok")
        yield Usage(3, 2)
        yield Stop()

@hookimpl
def register_providers(register):
    register(Flaky())
'''


class Bench:
    """An engine, its client and its clock."""

    def __init__(self, engine: Process, client: httpx.Client, clock: Clock, data: Path) -> None:
        self.engine, self.client, self.clock, self.data = engine, client, clock, data

    def post(self, path: str, **body: Any) -> Any:
        answer = self.client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self.client.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def chat(self, session_id: str, **headers: str) -> list[Any]:
        """The events of a turn."""
        body = {"message": "hi", "session_id": session_id}
        answer = self.client.post("/api/v1/schemas/test/chat", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return Parser().feed(answer.content)

    def before_the_minute(self, ahead: float) -> None:
        """Sets the clock so far ahead, or up to a minute more, that a minute begins in three seconds."""
        self.clock.set(ahead + 57 - (time.time() + ahead) % 60)

    def look(self) -> None:
        """Has the schedules and the workers look at the clock, as they do once a minute at least."""
        assert self.client.patch("/api/v1/schedules/tea", json={"message": new_uuid()}).status_code == 200
        self.post("tasks", title="nothing", agent="test", require_approval=True)

    def until(self, held: Callable[[], bool], seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not held():
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock, plugins, data = Clock(tmp_path), tmp_path / "plugins", tmp_path / "data"
    install(plugins, "flaky", FLAKY)
    settings = {**clock.environment, "BYTEBREW_PLUGINS_DIR": str(plugins), "BYTEBREW_PROVIDER_RETRIES": "0"}
    with (
        serving(data, settings) as engine,
        httpx.Client(base_url=engine.url, headers=HEADERS, timeout=20) as client,
    ):
        bench = Bench(engine, client, clock, data)
        bench.post("models", name="m", type="flaky", model_name="m")
        bench.post("agents", name="test", model="m")
        bench.post("schemas", name="test", entry_agent="test", chat_enabled=True)
        bench.post("schedules", name="tea", cron="* * * * *", agent="test")
        yield bench


def fired(bench: Bench) -> int:
    found: int = bench.get("tasks?source=schedule")["total"]
    return found


def test_a_schedule_that_fired_far_ahead_fires_at_its_times_once_the_clock_is_back(bench: Bench) -> None:
    bench.before_the_minute(AHEAD)
    bench.look()
    bench.until(lambda: fired(bench) >= 1)
    bench.before_the_minute(0)
    bench.look()
    before = fired(bench)
    bench.until(lambda: fired(bench) > before)


def test_a_task_whose_next_attempt_was_put_off_far_ahead_goes_on_once_the_clock_is_back(bench: Bench) -> None:
    bench.clock.set(AHEAD)
    task = bench.post("tasks", title="flaky", agent="test")["id"]
    bench.until(
        lambda: (bench.get(f"tasks/{task}")["status"], bench.get(f"tasks/{task}")["attempts"]) == ("pending", 1)
    )
    bench.clock.set(0)
    bench.look()
    bench.until(lambda: bool(bench.get(f"tasks/{task}")["status"] == "completed"))
    assert bench.get(f"tasks/{task}")["attempts"] == 2


def test_nothing_is_deleted_for_its_age_and_usage_and_order_stay_right(bench: Bench) -> None:
    assert bench.client.delete("/api/v1/schedules/tea").status_code == 204  # its turns would count
    assert bench.client.put("/api/v1/settings/retention.sessions", json={"value": 30}).status_code == 200
    kept, large = new_uuid(), new_uuid()
    first = bench.chat(kept, **{"Idempotency-Key": "k"})
    bench.chat(large)
    with changed(bench.data) as conn:
        grow(conn, large, 20_000)

    def rows_go(offset: float) -> None:
        """A deletion whose rows are left to retention, which then looks for what is due too."""
        bench.clock.set(offset)
        assert bench.client.delete(f"/api/v1/sessions/{large}").status_code == 204
        with opened(bench.data) as conn:
            bench.until(lambda: not conn.execute("select 1 from removals").fetchone())
        time.sleep(1)

    rows_go(AHEAD)
    events = [*first, *bench.chat(kept)]
    bench.clock.set(-10)
    events += bench.chat(kept)
    assert bench.chat(kept, **{"Idempotency-Key": "k"}) == first
    assert [event.id for event in events] == [str(n + 1) for n in range(len(events))]
    session = bench.get(f"sessions/{kept}")
    assert (session["usage"]["input_tokens"], session["usage"]["output_tokens"]) == (9, 6)
    assert [one["role"] for one in session["messages"]] == ["user", "assistant"] * 3
    total = bench.get("usage")["total"]
    assert (total["turns"], total["input_tokens"]) == (4, 12)
    assert bench.engine.stop() == 0
    assert "the clock was set by +34560" in bench.engine.errors
