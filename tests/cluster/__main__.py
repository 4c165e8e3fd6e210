"""`python -m tests.cluster`: a run by a seed, and what it came to."""

import argparse
import asyncio
import random
import signal
import sys

import uvloop

from tests.cluster.run import Plan, run, summary


def main() -> int:
    """Whether there were violations, as an exit code of 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="Nodes behind a balancer, disturbed.")
    parser.add_argument("--seed", type=int, help="what the dice begin with; by chance where it is left out")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the work goes on")
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes; with 0 one engine on SQLite")
    parser.add_argument("--sessions", type=int, default=30, help="how many clients are at work at a time")
    parser.add_argument("--calm", action="store_true", help="disturb nothing")
    wanted = parser.parse_args()
    seed = wanted.seed if wanted.seed is not None else random.randrange(10**6)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # which ends the nodes too
    print(f"seed {seed}: make cluster SEED={seed} MINUTES={wanted.minutes:g} NODES={wanted.nodes}", flush=True)
    shared, nodes = wanted.nodes > 0, wanted.nodes or 1
    plan = Plan(seed, wanted.minutes * 60, nodes, wanted.sessions, faults=not wanted.calm, postgresql=shared)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        history = runner.run(run(plan))
    print(summary(plan, history), flush=True)
    return 1 if history.violations else 0


if __name__ == "__main__":
    sys.exit(main())
