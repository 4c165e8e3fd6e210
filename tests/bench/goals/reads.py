"""Requests that are no turns: lists, single things and changes, beside a route that answers with the same bytes."""

import time
from collections.abc import Iterator, Mapping
from statistics import median

import httpx
import msgspec
import uvloop

from tests.bench.data import admin
from tests.bench.figures import percentile
from tests.bench.goals.asked import Rate, Requests, over_and_over, request
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, bare, engines, vendor
from tests.bench.measures import CLIENTS
from tests.bench.servers import Server

AGENTS, SESSIONS = 20, 30
LEAST = 0.6
PATHS = {
    "health": "/health",
    "list of agents": "/agents",
    "an agent": "/agents/agent7",
    "list of models": "/models",
    "list of schemas": "/schemas",
    "a schema": "/schemas/burst",
    "list of sessions": "/sessions",
    "a session": "/sessions/{session}",
    "list of tasks": "/tasks",
    "list of tokens": "/auth/tokens",
}
NEW = {"system": "You help.", "model": "burst", "tools": ["current_time"]}
CHANGE = b'{"system": "You help gladly.", "max_steps": 30}'


def reads(bench: Bench) -> Iterator[object]:
    """Requests a second of clients that never pause; the changes make, change and delete an agent each."""
    with vendor(bench) as double, bare(bench, "tests.bench.floors.json_route") as floor, engines(bench, double) as ours:
        asked = [_prepare(one, floor) for one in ours]
        for name in asked[0]:
            base, *rest = _rates(bench, floor, ours, [one[name] for one in asked])
            found = [one.per_second for one in rest]
            yield Row.ratio(f"{name}: requests/s", base.per_second, found, Goal(">=", LEAST, "x"))


def _prepare(engine: Server, floor: Server) -> Mapping[str, tuple[Requests, Requests]]:
    """What is asked of the floor and of the engine, by name; both then answer with the same bytes."""
    found: dict[str, tuple[Requests, Requests]] = {}
    with admin(engine) as api:

        def show(name: str, answer: httpx.Response) -> str:
            path = f"shown/{name.replace(' ', '-')}"
            content = answer.raise_for_status().content
            httpx.put(f"http://127.0.0.1:{floor.port}/{path}", content=content).raise_for_status()
            return f"/{path}"

        for n in range(AGENTS):
            api.post("/agents", json={"name": f"agent{n}", **NEW}).raise_for_status()
        for _ in range(SESSIONS):
            answer = api.post("/schemas/burst/chat", json={"message": "Hi", "stream": False}).raise_for_status()
        for name, path in PATHS.items():
            url = path.format(session=answer.json()["session_id"])
            found[name] = _same("GET", show(name, api.get(url))), _same("GET", f"/api/v1{url}")
        show("crud", api.post("/agents", json={"name": "crud", **NEW}))
        api.delete("/agents/crud").raise_for_status()
    found["changes of an agent"] = _changes("/change/crud", "/change/crud"), _changes("/api/v1/agents", "")
    return found


def _same(method: str, path: str) -> Requests:
    one = [request(method, path)]
    return lambda number: one


def _changes(collection: str, one: str) -> Requests:
    def requests(number: int) -> list[bytes]:
        name = f"crud{number}"
        path = one or f"{collection}/{name}"
        new = msgspec.json.encode({"name": name, **NEW})
        return [request("POST", collection, new), request("PUT", path, CHANGE), request("DELETE", path)]

    return requests


def _rates(bench: Bench, floor: Server, engines: list[Server], requests: list[tuple[Requests, Requests]]) -> list[Rate]:
    """The medians of the floor and of the engines over rounds in which they take turns."""
    sides = [(floor, requests[0][0]), *zip(engines, (ours for _, ours in requests), strict=True)]
    rounds: list[list[Rate]] = [[] for _ in sides]
    for _ in range(bench.effort.rounds):
        for (server, asks), found in zip(sides, rounds, strict=True):
            before, started = server.cpu_seconds, time.perf_counter()
            times = uvloop.run(over_and_over(server.port, CLIENTS, asks, bench.effort.seconds / 4))
            took, spent = time.perf_counter() - started, server.cpu_seconds - before
            slow = percentile(times, 99) * 1000
            found.append(Rate(len(times) / took, spent * 1_000_000 / len(times), slow))
    return [Rate(*map(median, zip(*found, strict=True))) for found in rounds]
