"""A short run of the cluster; `make cluster` makes long ones."""

import os

import pytest

from tests.cluster.faults import Deed
from tests.cluster.run import Plan, run

SECONDS = 60 if "ALL_FAULTS" in os.environ else 30


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_no_promise_is_broken_while_the_only_node_fails() -> None:
    history = await run(Plan(seed=11, seconds=SECONDS, nodes=1, sessions=15))
    assert history.violations == []
    assert len(history.sent) > SECONDS
    assert history.disturbances


@pytest.mark.slow
@pytest.mark.postgresql
@pytest.mark.timeout(400)
async def test_no_promise_is_broken_while_nodes_connections_and_the_database_fail() -> None:
    script = [
        Deed(2, "sleep", 0, 15),
        Deed(4, "cut", 1, 0),
        Deed(6, "cut_clients", 2, 0),
        Deed(8, "kill", 1, 4),
        Deed(20, "crash", 0, 0),
        Deed(24, "hold", 2, 14),
        Deed(26, "restart", 0, 0),
        Deed(30, "kill", 0, 12),
    ]
    history = await run(Plan(seed=12, seconds=45, nodes=3, sessions=20, script=script, postgresql=True))
    assert history.violations == []
    assert len(history.sent) > SECONDS
    assert len(history.disturbances) >= len(script)
