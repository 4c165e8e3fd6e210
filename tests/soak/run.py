"""One soak: an engine, what it calls, clients of all kinds, and the reckoning."""

import asyncio
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests import mcp_double
from tests.bench.data import WORDS
from tests.chaos import ending, seed
from tests.chaos.client import Client
from tests.chaos.model import LABEL, Model
from tests.chaos.people import choice
from tests.disturbed.people import person
from tests.soak import visitors
from tests.soak.bulk import Bulk, file_has
from tests.soak.engine import SECRETS, Engine
from tests.soak.hostile import Hostile
from tests.soak.samples import Sample, Sampler
from tests.soak.slopes import counted, verdicts
from tests.soak.upstreams import KINDS, Upstream
from tests.soak.visitors import Act, Leaving, SlowClient
from tests.soak.world import RESTARTS, Disturber
from tests.stored import opened

GRACE_SECONDS = 1800.0
"""Beyond its time a soak has so long to start, to settle and to be checked."""
RETENTION = {"retention.idempotency": 365, "retention.events": 1}
"""Days: keys are kept for all of it, and events are packed behind the first restart."""
CONTEXT = 4000
TEXT = [f"{n} " + " ".join(WORDS[n : n + 150]) for n in range(0, 3000, 150)]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done: for how long, with how many turns a second, and how often the engine is looked at."""

    seed: int
    seconds: float
    rate: float = 56.0
    """200,000 turns in an hour."""
    clients: int = 8
    slow: int = 3
    pace: float = 1.0
    """Mean seconds between two acts of a client."""
    gap: float = 40.0
    """Mean seconds between two disturbances outside of the engine."""
    every: float = 10.0
    restarts: Sequence[tuple[float, str]] = RESTARTS
    planted: str = ""
    """A plugin that does something wrong."""


@dataclass
class Soak:
    """What a run came to."""

    plan: Plan
    model: Model
    bulk: Bulk
    sampler: Sampler
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def samples(self) -> Sequence[Sample]:
        return self.sampler.samples


async def run(plan: Plan, report: Callable[[str], None]) -> Soak:
    """Runs it; its folder and the log stay if there are violations."""
    model = Model(plan.seed)
    engine = Engine(Path(tempfile.mkdtemp(prefix=f"soak-{plan.seed}-")), model, plan.planted)
    soak = Soak(plan, model, Bulk(engine, model, plan.rate), Sampler(engine, report, plan.every))
    try:
        async with asyncio.timeout(plan.seconds + GRACE_SECONDS):
            await _run(engine, soak)
    except* Exception:
        model.violation(f"the soak broke off: {traceback.format_exc()}")
    finally:
        engine.kill_now()
    if model.violations:
        (engine.folder / "violations.txt").write_text("\n".join(model.violations))
        print(f"the data folder and engine.log are kept in {engine.folder}", flush=True)
    else:
        engine.remove()
    return soak


async def _run(engine: Engine, soak: Soak) -> None:
    plan, model = soak.plan, soak.model
    async with AsyncExitStack() as stack:
        upstreams = {kind: Upstream(kind, plan.seed) for kind in KINDS}
        for one in upstreams.values():
            stack.push_async_callback(one.kill)
            await one.start()
        clients = [Client(engine, model, number) for number in range(plan.clients + 1)]
        slow = [SlowClient(engine, model, 100 + number) for number in range(plan.slow)]
        hostile = Hostile(Client(engine, model, 200))
        for client in [*clients, *slow]:
            stack.push_async_callback(client.aclose)
        world, leaving = Disturber(engine, model, upstreams), Leaving(partial(choice, model))
        await world.start()
        await _configure(clients[0], upstreams)
        until = time.monotonic() + plan.seconds
        async with asyncio.TaskGroup() as around:
            LABEL.set("the person")
            background = [
                around.create_task(person(clients[0], model, leaving)),
                around.create_task(world.watch()),
                around.create_task(hostile.run(plan.pace)),
                around.create_task(soak.sampler.run(lambda: len(soak.bulk.turns) + len(model.chats), soak.bulk.took)),
            ]
            async with asyncio.TaskGroup() as group:
                group.create_task(world.restarts(until, plan.restarts))
                group.create_task(world.outside(until, plan.gap))
                group.create_task(soak.bulk.run(until))
                for client in clients[1:]:
                    group.create_task(_act(client, until, plan.pace, visitors.ACTS))
                for client in slow:
                    group.create_task(_act(client, until, plan.pace, [(visitors.slow, 1)]))
            leaving.ends = True
            for talk in [talk for client in clients for talk in client.talks]:
                await talk
            await ending.settled(engine, model)
            await ending.engine_agrees(clients[0])
            for task in background:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        code = await engine.stop()
        model.check(code == 0, f"the engine ended with {code} on SIGTERM at the end")
        engine.read_log()
        soak.counts = {
            "acts and disturbances": Counter({**model.acts, "question left for a while": leaving.count}),
            "the many": soak.bulk.counts,
            "hostile": hostile.counts,
            "scrapes": soak.sampler.counts,
            **{f"faults of {kind}": one.did for kind, one in upstreams.items() if one.did},
        }
        await asyncio.to_thread(_file_agrees, engine, soak)


def _file_agrees(engine: Engine, soak: Soak) -> None:
    ending.file_agrees(engine, soak.model)
    with opened(engine.data) as conn:
        for one in file_has(conn, soak.bulk.turns):
            soak.model.violation(one)


async def _act(client: Client, until: float, pace: float, acts: Sequence[tuple[Act, int]]) -> None:
    """One act after the other."""
    choices, weights = zip(*acts, strict=True)
    step = 0
    while time.monotonic() < until:
        step += 1
        LABEL.set(f"client {client.number} step {step}")
        act: Callable[[Client], Awaitable[None]] = client.dice.choices(choices, weights)[0]
        client.model.count(act.__name__)
        await act(client)
        await asyncio.sleep(client.dice.uniform(0, 2 * pace))


async def _configure(client: Client, upstreams: Mapping[str, Upstream]) -> None:
    """What the chaos has, and models, tools, an MCP server and a knowledge base of our own."""
    await seed.configure(client, f"{upstreams['weak'].url}/v1")
    vendor = {"type": "openai_compatible", "base_url": f"{upstreams['vendor'].url}/v1", "api_key": SECRETS["model"]}
    mcp = {"type": "stdio", "command": sys.executable, "args": [mcp_double.__file__]}
    auth = {"type": "header", "name": "X-Key", "value": SECRETS["tool"]}
    outside = {"model": "script", "tools": ["stock"], "mcp_servers": ["double"]}
    wanted: list[tuple[str, dict[str, object]]] = []
    for name in ("burst", "paced"):
        wanted += [("models", {"name": name, "model_name": name, **vendor})]
        wanted += [("agents", {"name": name, "model": name, "max_context_size": CONTEXT})]
    wanted += [
        ("tools", {"name": "stock", "type": "http", "url": f"{upstreams['tool'].url}/stock/{{{{sku}}}}", "auth": auth}),
        ("mcp-servers", {"name": "double", "env": {"TOKEN": SECRETS["mcp"]}, **mcp}),
        ("agents", {"name": visitors.OUTSIDE, **outside}),
        ("knowledge-bases", {"name": visitors.BASE}),
    ]
    wanted += [
        ("schemas", {"name": name, "entry_agent": name, "chat_enabled": True})
        for name in ("burst", "paced", visitors.OUTSIDE)
    ]
    for path, body in wanted:
        answer = await client.insist("POST", f"/{path}", body)
        if answer is None or answer.status != 201:
            raise RuntimeError(f"{path} {json.dumps(body)} was answered {answer}")
    for key, days in RETENTION.items():
        await client.insist("PUT", f"/settings/{key}", {"value": days})
    for n, text in enumerate(TEXT):
        await visitors.send_file(client, f"{n}.md", text)


def summary(soak: Soak) -> Iterator[str]:
    """Lines of what it came to; a figure that grows is one more violation."""
    model, plan = soak.model, soak.plan
    turns = len(soak.bulk.turns) + len(model.chats)
    yield f"\nseed {plan.seed}: {turns:,} turns, {len(model.tasks):,} tasks, {len(soak.samples):,} samples"
    for title, counts in soak.counts.items():
        yield counted(title, sorted(counts.items()))
    for words, grows in verdicts(soak.samples):
        if grows:
            model.violation(words)
        yield words
    yield f"{len(model.violations)} violations"
