"""A short seed of the chaos; `make chaos` runs long ones."""

import os

import pytest

from tests.chaos.seed import run

SECONDS = 30 if "ALL_FAULTS" in os.environ else 10


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_no_promise_is_broken_while_the_world_is_hostile() -> None:
    model = await run(11, SECONDS)
    assert model.violations == []
    assert len(model.chats) > SECONDS
