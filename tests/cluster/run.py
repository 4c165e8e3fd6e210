"""One run: nodes on fresh folders, sessions and a world that disturbs them, and then the reckoning."""

import asyncio
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import administration, checker, database, delays
from tests.cluster.client import Client
from tests.cluster.conversations import Talker
from tests.cluster.faults import Deed, World
from tests.cluster.history import History
from tests.cluster.nodes import Nodes
from tests.cluster.outside import Outside
from tests.cluster.people import person

GRACE_SECONDS = 240.0
"""Beyond its time a run has so long to start, to settle and to be checked."""
SETTLE_SECONDS = 120.0
"""How long all turns and tasks may take to end once nothing disturbs them."""
AFTERMATH_SECONDS = 20.0
"""How long a run goes on behind its first violation, to end and to be checked."""
REPLAY_SECONDS = 30.0
"""How long a node may take to give a session's events: one that has lost its lease begins anew."""
SCHEDULES = 5
BUSY = 20
"""Clients that are at work without a rest."""
TICK = 'tick schedule [["tick"]]'


@dataclass
class Plan:
    """How a run is made."""

    seed: int
    seconds: float
    nodes: int = 1
    sessions: int = 20
    faults: bool = True
    script: Sequence[Deed] = ()
    """What is done in the place of what the dice say."""
    keep: bool = True
    """Whether the folder stays if there are violations."""
    postgresql: bool = False
    code: dict[int, Path] = field(default_factory=dict)
    """Copies of the engine's code that nodes run, by their numbers."""


class Broken(Exception):
    """A promise was broken before the run's time was over."""


async def run(plan: Plan) -> History:
    """The history of a run; the folder with its data and logs stays if there are violations."""
    history, folder = History(plan.seed, plan.nodes), Path(tempfile.mkdtemp(prefix=f"cluster-{plan.seed}-"))
    nodes: list[Nodes] = []
    try:
        async with asyncio.timeout(plan.seconds + GRACE_SECONDS):
            await _run(plan, history, folder, nodes)
    except* TimeoutError:
        history.violation(f"the run had not ended {GRACE_SECONDS:g} s after its time")
    except* Broken:
        pass  # what was seen will do
    except* Exception:
        if not history.violations:
            history.violation(f"the run broke off: {traceback.format_exc()}")
    finally:
        for one in nodes:
            one.kill_now()
    if history.violations and plan.keep:
        (folder / "violations.txt").write_text("\n".join(history.violations))
        print(f"seed {plan.seed}: data and logs are kept in {folder}", flush=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return history


async def _run(plan: Plan, history: History, folder: Path, made: list[Nodes]) -> None:
    async with AsyncExitStack() as stack:
        store = await _store(plan, folder, stack)
        outside = Outside(history)
        await outside.start()
        stack.push_async_callback(outside.stop)
        settings = {"BYTEBREW_CALLBACK_ORIGINS": outside.url, **store.settings}
        nodes = Nodes(folder, plan.seed, plan.nodes, settings, store.port)
        nodes.code = plan.code
        made.append(nodes)
        stack.push_async_callback(nodes.close)
        stack.push_async_callback(_leave_stacks, history, nodes)
        await nodes.start()
        if store.server is not None:
            await store.server.witness()
        while len(nodes.balancer.healthy) < plan.nodes:
            await asyncio.sleep(0.05)
        admin = Client(nodes.balancer.port, history, "admin")
        await _configure(admin, outside.url)
        await delays.measure(nodes, history)
        await delays.reach(nodes, history)
        world = World(nodes, history, store.server)
        talkers: list[Talker] = []
        for n in range(plan.sessions):
            client = Client(nodes.balancer.port, history, f"client-{n}")
            talkers.append(Talker(client, nodes, talkers))
        until = time.monotonic() + plan.seconds
        async with asyncio.TaskGroup() as around:
            background = [around.create_task(person(Client(nodes.balancer.port, history, "person")))]
            background.append(around.create_task(world.watch()))
            background.append(around.create_task(_end_if_broken(history)))
            async with asyncio.TaskGroup() as group:
                if plan.script:
                    group.create_task(world.play(plan.script))
                elif plan.faults:
                    group.create_task(world.disturb(until))
                for talker in talkers:
                    group.create_task(_act(talker, until))
            if history.violations:
                raise Broken
            await _remove_schedules(admin)
            await _settled(store, history)
            await asyncio.to_thread(_check, store, history)
            if history.violations:
                raise Broken
            await _replays(admin, nodes, history, store)
            for task in background:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if changes := sorted(history.waits["change"]):
            fine = changes[len(changes) // 2] <= administration.SEEN_SECONDS
            history.check(fine, f"changes are seen on other nodes after {delays.percentiles(changes)}")
        codes = await nodes.stop()
        history.check(not any(codes), f"the nodes ended with {codes} on SIGTERM at the end")
        for words in _traces(nodes):
            print(f"in the log of a node: {words}", flush=True)


async def _store(plan: Plan, folder: Path, stack: AsyncExitStack) -> database.Store:
    if not plan.postgresql:
        return database.file(folder)
    server = database.Server(folder / "server")
    stack.callback(server.kill_now)
    return await server.start()


async def _end_if_broken(history: History) -> None:
    """Ends a run soon after its first violation: what follows from it says little."""
    while not history.violations:
        await asyncio.sleep(0.5)
    await asyncio.sleep(AFTERMATH_SECONDS)
    raise Broken


async def _leave_stacks(history: History, nodes: Nodes) -> None:
    """Where there were violations each node shows in its log what it was at."""
    if history.violations:
        nodes.kill_now(signal.SIGABRT)
        await asyncio.sleep(1)


def _traces(nodes: Nodes) -> Iterator[str]:
    """The beginning and the end of each trace in the logs of the nodes."""
    for node in nodes:
        for line in node.log().splitlines():
            head, trace, rest = line.partition("Traceback")
            if trace:
                yield f"{head[:200]} ... {rest[-300:]}"


def _check(store: database.Store, history: History) -> None:
    with store.opened() as conn:
        for words in checker.violations(conn, history):
            history.violation(words)
        for words in database.unwitnessed(conn) if store.server else ():
            history.violation(words)


async def _act(talker: Talker, until: float) -> None:
    """One act after the other, slower the more clients there are."""
    client, pace = talker.client, max(1.0, len(talker.others) / BUSY)
    choices, weights = zip(*administration.ACTS, strict=True)
    await asyncio.sleep(client.dice.uniform(0, 4 * pace))
    while time.monotonic() < until and not client.history.violations:
        act = client.dice.choices(choices, weights)[0]
        client.history.acts[act.__name__] += 1
        await act(talker)
        await asyncio.sleep(client.dice.uniform(0, 4 * pace))


async def _configure(admin: Client, url: str) -> None:
    """A scripted model, tools that count, an agent with its schema, a webhook, a callback and schedules."""
    named = {"mark": {"type": "string"}, "seconds": {"type": "number"}}
    tool = {"method": "POST", "parameters": named, "allow_private": True}
    model = {"name": "script", "type": "openai_compatible", "model_name": "script", "base_url": f"{url}/v1"}
    look = {"mark": "{{mark}}", "seconds": "{{seconds}}"}
    agent = {"model": "script", "tools": ["count", "look", "sign"], "max_context_size": 200000}
    wanted: list[tuple[str, dict[str, object]]] = [
        ("models", {**model, "api_key": "sk-cluster"}),
        ("tools", {"name": "count", "url": f"{url}/tools/count", "idempotent": False, **tool}),
        ("tools", {"name": "look", "url": f"{url}/tools/look", **tool, "method": "GET", "params": look}),
        ("tools", {"name": "sign", "url": f"{url}/tools/sign", "confirmation_required": True, **tool}),
        ("agents", {"name": "chat", **agent}),
        ("agents", {"name": "worker", **agent}),
        ("schemas", {"name": "chat", "entry_agent": "chat", "chat_enabled": True}),
        ("webhooks", {"name": "hook", "agent": "worker", "secret": administration.HOOK_SECRET, "message": HOOKED}),
        ("callbacks", {"name": "ended", "url": f"{url}/callback", "events": ["task.ended"]}),
    ]
    for n in range(SCHEDULES):
        schedule: dict[str, object] = {"cron": "* * * * *", "agent": "worker", "message": TICK, "missed": "once"}
        wanted.append(("schedules", {"name": f"schedule-{n}", **schedule}))
        admin.history.schedules[f"schedule-{n}"] = time.time()
    for path, body in wanted:
        answer = await admin.insist("POST", f"/{path}", body)
        if answer.status != 201:
            raise RuntimeError(f"{path} {body} was answered {answer}")


HOOKED = '{{body.mark}} [["hooked "]]'


async def _remove_schedules(admin: Client) -> None:
    """No more tasks are made by the minute."""
    for name in admin.history.schedules:
        await admin.insist("DELETE", f"/schedules/{name}")


async def _settled(store: database.Store, history: History) -> None:
    """Returns once no turn and no task that can run is open, and all is called back."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        open_ones = await asyncio.to_thread(_open, store)
        if not open_ones:
            return
        if time.monotonic() > until:
            history.violation(f"{SETTLE_SECONDS:g} s after the last disturbance these are open: {open_ones[:8]}")
            return
        await asyncio.sleep(0.3)


def _open(store: database.Store) -> list[tuple[object, ...]]:
    with store.opened() as conn:
        sql = "select id, subject from callbacks_deliveries where status = 'pending'"
        return [tuple(row) for one in (checker.OPEN_TURNS, checker.OPEN_TASKS, sql) for row in conn.execute(one)]


async def _replays(admin: Client, nodes: Nodes, history: History, store: database.Store) -> None:
    """Every node gives every session's events as all clients saw them, from the first to the last."""

    def lasts() -> list[tuple[str, int]]:
        with store.opened() as conn:
            sql = "select session_id, max(last_event) from turns group by session_id order by session_id"
            return [(row[0], row[1]) for row in conn.execute(sql).fetchall() if row[1]]

    room = asyncio.Semaphore(20)

    async def replay(port: int, session_id: str, last: int) -> None:
        path, until = f"/sessions/{session_id}/events", time.monotonic() + REPLAY_SECONDS
        async with room:
            part = await admin.stream("GET", path, session_id=session_id, last=last, port=port)
            while part.status in (0, 503) and time.monotonic() < until:
                await asyncio.sleep(0.5)
                part = await admin.stream("GET", path, session_id=session_id, last=last, port=port)
        if session_id not in history.deleting:
            history.check(part.last == last, f"session {session_id} is replayed up to {part.last} of {last}: {part}")

    async with asyncio.TaskGroup() as group:
        for session_id, last in await asyncio.to_thread(lasts):
            for node in nodes:
                group.create_task(replay(node.port, session_id, last))


def summary(plan: Plan, history: History) -> str:
    """What a run came to, in some lines."""
    counts = ", ".join(f"{name} {count}" for name, count in sorted(history.acts.items()))
    disturbed = f"{len(history.disturbances)} disturbances"
    events = sum(map(len, history.frames.values()))
    lines = [
        f"seed {plan.seed}: {len(history.violations)} violations in {history.now:.0f} s, {plan.nodes} nodes",
        f"  {plan.sessions} clients, {len(history.sent)} messages, {len(history.tasks)} tasks, {len(history.runs)} runs"
        f" of tools, {events} events, {disturbed}",
        f"  {counts}",
    ]
    lines += [f"  {name}: {delays.percentiles(values)}" for name, values in sorted(history.waits.items())]
    return "\n".join(lines)
