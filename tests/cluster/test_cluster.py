"""A short run of the cluster; `make cluster` makes long ones."""

import os

import pytest

from tests.cluster.run import Plan, run

SECONDS = 60 if "ALL_FAULTS" in os.environ else 20


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_no_promise_is_broken_while_the_only_node_fails() -> None:
    history = await run(Plan(seed=11, seconds=SECONDS, nodes=1, sessions=15))
    assert history.violations == []
    assert len(history.sent) > SECONDS
    assert history.disturbances
