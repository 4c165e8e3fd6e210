"""Caps hold while the engine is killed: what was reserved and never settled counts as spent."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.processes import serving
from tests.stored import rows

GREEDY = '''
"""A model that answers with as many tokens as it may, after a while."""
import asyncio
from bytebrew import MessageDelta, Provider, Stop, Usage, hookimpl

class Greedy(Provider):
    type = "greedy"

    async def stream(self, request, http):
        yield MessageDelta(content="y")
        await asyncio.sleep(0.2)
        yield Usage(input_tokens=10, output_tokens=request.max_tokens)
        yield Stop()

@hookimpl
def register_providers(register):
    register(Greedy())
'''
CAP = 12_000
HEADERS = {"Authorization": f"Bearer {ADMIN}"}
URL = "/api/v1/schemas/greedy/chat"


def installed(folder: Path) -> Path:
    """The folder with the plugin in it."""
    info = folder / "greedy-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "greedy_provider.py").write_text(GREEDY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bytebrew]\ngreedy = greedy_provider\n")
    return folder


async def configure(client: httpx.AsyncClient) -> None:
    """A schema, and a budget that has room for eleven whole calls."""
    for path, body in (
        ("models", {"name": "greedy", "type": "greedy", "model_name": "greedy"}),
        ("agents", {"name": "greedy", "model": "greedy", "max_tokens": 1000}),
        ("schemas", {"name": "greedy", "entry_agent": "greedy", "chat_enabled": True}),
        ("budgets", {"name": "cap", "tokens": CAP, "window": "month"}),
    ):
        answer = await client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text


async def chat(client: httpx.AsyncClient) -> int:
    """The status of one chat; 0 where the engine was killed."""
    with suppress(httpx.TransportError):
        return (await client.post(URL, json={"message": "hi", "stream": False})).status_code
    return 0


async def settled(data: Path) -> None:
    """Returns once no turn is under way."""
    while rows(data, "select 1 from turns where status in ('queued', 'running')"):
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.25, 0.4])
async def test_fifty_racing_turns_never_pass_the_cap_over_kill_9(tmp_path: Path, seconds: float) -> None:
    settings = {"BYTEBREW_PLUGINS_DIR": str(installed(tmp_path / "plugins"))}
    data = tmp_path / "data"
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
            await configure(client)
            racing = [asyncio.create_task(chat(client)) for _ in range(50)]
            await asyncio.sleep(seconds)
            engine.kill()
            statuses = Counter(await asyncio.gather(*racing))
    [(held,)] = rows(data, "select coalesce(sum(amount), 0) from budgets_reserved")
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
            await settled(data)
            statuses += Counter(await asyncio.gather(*(chat(client) for _ in range(20))))
            await settled(data)
            budget = (await client.get("/api/v1/budgets/cap")).json()
            usage = (await client.get("/api/v1/usage")).json()["total"]
        assert engine.stop() == 0
    assert statuses.keys() <= {0, 200, 402}
    assert budget["reserved"] == budget["over"] == 0
    assert budget["used"] <= CAP
    assert budget["used"] == usage["input_tokens"] + usage["output_tokens"] + held
    assert CAP - budget["used"] < 1100  # what is left has no room for another whole call
    ends = Counter(status for (status,) in rows(data, "select status from turns"))
    assert ends.keys() <= {"completed", "failed"}
