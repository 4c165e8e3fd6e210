"""One seed: an engine on a fresh folder, clients and a world that disturb it for a while, and then the reckoning."""

import asyncio
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tests.chaos import acts, admin, ending
from tests.chaos.client import Client
from tests.chaos.model import LABEL, Model
from tests.chaos.people import person
from tests.chaos.process import Process
from tests.chaos.vendor import vendor
from tests.chaos.world import World

CLIENTS = 6
GRACE_SECONDS = 150.0
"""Beyond its minutes a seed has so long to start, to settle and to be checked."""
ACTS: tuple[tuple[Callable[[Client], Awaitable[None]], int], ...] = (
    (acts.chat, 30),
    (acts.repeat, 9),
    (acts.follow, 8),
    (acts.cancel, 6),
    (acts.delete, 3),
    (acts.read, 9),
    (acts.health, 3),
    (admin.task, 9),
    (admin.steer, 9),
    (admin.token, 5),
    (admin.agent, 4),
    (admin.schedule, 1),
    (admin.webhook, 5),
    (admin.setting, 4),
    (admin.config, 2),
    (admin.verify, 4),
)


class Broken(Exception):
    """A promise was broken before the seed's time was over."""


async def run(seed: int, seconds: float, *, pace: float = 0.25) -> Model:
    """The model of a seed that ran for so long; its folder and log stay if there are violations."""
    model = Model(seed)
    process = Process(Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-")), model)
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            await _run(process, model, seconds, pace)
    except* TimeoutError:
        model.violation(f"the seed had not ended {GRACE_SECONDS:g} s after its time; the tasks were: {_stacks()}")
    except* Broken:
        pass  # what was seen will do: an engine that hangs would only take more time
    except* Exception:
        model.violation(f"the seed broke off: {traceback.format_exc()}")
    finally:
        process.kill_now()
    if model.violations:
        (process.folder / "violations.txt").write_text("\n".join(model.violations))
        print(f"seed {seed}: the data folder and engine.log are kept in {process.folder}", flush=True)
    else:
        process.remove()
    return model


async def _run(process: Process, model: Model, seconds: float, pace: float) -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(vendor(model.seed))
        world = World(process, model)
        clients = [Client(process, model, number) for number in range(CLIENTS + 1)]
        for client in clients:
            stack.push_async_callback(client.aclose)
        await world.start()
        await configure(clients[0], upstream.url)
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as around:
            background = [around.create_task(person(clients[0])), around.create_task(world.watch())]
            async with asyncio.TaskGroup() as group:
                group.create_task(world.disturb(until))
                for client in clients[1:]:
                    group.create_task(_act(client, until, pace))
            process.set_clock(0.0)
            if model.violations:
                raise Broken
            for talk in [talk for client in clients for talk in client.talks]:
                await talk
            await ending.settled(process, model)
            if model.violations:
                raise Broken
            await ending.engine_agrees(clients[0])
            for task in background:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        code = await process.stop()
        model.check(code == 0, f"the engine ended with {code} on SIGTERM at the end")
        model.acts["traces in the log"] = process.errors().count("Traceback")
        await asyncio.to_thread(ending.file_agrees, process, model)


async def _act(client: Client, until: float, pace: float) -> None:
    """One act after the other."""
    choices, weights = zip(*ACTS, strict=True)
    step, model = 0, client.model
    while time.monotonic() < until and not model.violations:
        step += 1
        LABEL.set(f"client {client.number} step {step}")
        act: Callable[[Client], Awaitable[None]] = client.dice.choices(choices, weights)[0]
        model.count(act.__name__)
        await act(client)
        await asyncio.sleep(client.dice.uniform(0, 2 * pace))


async def configure(client: Client, vendor_url: str) -> None:
    """Schemas `parallel` and `sequential` of scripted agents, `weak` of a vendor that fails, and the agent of tasks."""
    tools = ["pay", "look", "sign"]
    wanted: list[tuple[str, dict[str, object]]] = [
        ("models", {"name": "script", "type": "script", "model_name": "script"}),
        ("agents", {"name": "helper", "model": "script", "tools": tools}),
        ("agents", {"name": "worker", "model": "script", "tools": tools, "can_spawn": ["helper"]}),
    ]
    priced = {"type": "openai_compatible", "base_url": vendor_url, "api_key": "sk-chaos", "pricing_input": 2.5}
    wanted += [
        ("models", {"name": "strong", "model_name": "strong", "pricing_output": 5, **priced}),
        ("models", {"name": "weak", "model_name": "weak", "pricing_output": 1, **priced, "fallback": ["strong"]}),
    ]
    for name in ("parallel", "sequential", "weak"):
        agent: dict[str, object] = {"name": name, "model": "script", "tools": tools, "can_spawn": ["helper"]}
        agent |= {"model": "weak", "tools": ["look"], "can_spawn": []} if name == "weak" else {"tool_execution": name}
        wanted += [("agents", agent), ("schemas", {"name": name, "entry_agent": name, "chat_enabled": True})]
    for path, body in wanted:
        answer = await client.insist("POST", f"/{path}", body)
        if answer is None or answer.status != 201:
            raise RuntimeError(f"{path} {body} was answered {answer}")
    answer = await client.insist("PUT", "/settings/retention.idempotency", {"value": 365})
    if answer is None or answer.status != 200:
        raise RuntimeError(f"the setting was answered {answer}")


def _stacks() -> str:
    found = []
    for task in asyncio.all_tasks():
        frames = task.get_stack(limit=3)
        found.append(" < ".join(f"{one.f_code.co_name}:{one.f_lineno}" for one in reversed(frames)))
    return "; ".join(found)[:3000]


def summary(model: Model) -> str:
    """A line about a seed."""
    counts = ", ".join(f"{name} {count}" for name, count in sorted(model.acts.items()))
    seconds = time.monotonic() - model.began
    total = f"{len(model.chats)} turns, {len(model.tasks)} tasks, {len(model.sessions)} sessions"
    return f"seed {model.seed}: {len(model.violations)} violations in {seconds:.0f} s; {total}; {counts}"
