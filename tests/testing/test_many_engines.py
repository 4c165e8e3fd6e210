"""Many engines in one process, as tests and programs that embed the engine have them."""

import gc
import typing

from bytebrew.testing import served_engine
from tests.tables import check_refusal

AGENT = "/api/v1/agents/duck"


def classes() -> dict[int, type]:
    for clear in typing._cleanups:  # type: ignore[attr-defined]  # typing keeps the last 128 types that were subscripted
        clear()
    for _ in range(2):  # a decoder of msgspec is freed by the first run, and what it alone held by the second
        gc.collect()
    return {id(one): one for one in gc.get_objects() if isinstance(one, type)}


async def use_every_kind_of_body() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "duck", "model": "demo", "system_prompt": "Quack."})
        memory = (await client.post(f"{AGENT}/capabilities", json={"type": "memory"})).json()
        for body in (memory, {"type": "memory"}):
            (await client.put(f"{AGENT}/capabilities/{memory['id']}", json=body)).raise_for_status()
        (await client.put(AGENT, json=(await client.get(AGENT)).json())).raise_for_status()
        check_refusal(await client.post(f"{AGENT}/capabilities", json={"type": "flight"}))


async def test_no_class_of_an_engine_stays_when_it_is_closed() -> None:
    await use_every_kind_of_body()
    before = classes()
    for _ in range(3):
        await use_every_kind_of_body()
    assert [one for key, one in classes().items() if key not in before] == []
