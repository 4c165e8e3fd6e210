"""`python -m tests.soak`: a soak by a seed, and what it came to."""

import argparse
import asyncio
import random
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import uvloop

from tests.soak.run import Plan, run, summary


def main() -> int:
    """Whether there were violations, as an exit code of 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Mixed traffic against one engine.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long the traffic goes on")
    parser.add_argument("--seed", type=int, help="what the dice begin with; by chance where it is left out")
    parser.add_argument("--report", type=Path, help="file for a line of JSON every ten seconds, in place of the output")
    wanted = parser.parse_args()
    seed = wanted.seed if wanted.seed is not None else random.randrange(10**6)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # which ends the processes too
    print(f"seed {seed}: make soak SEED={seed} MINUTES={wanted.minutes:g}", flush=True)
    with ExitStack() as stack:
        file = stack.enter_context(wanted.report.open("w")) if wanted.report else sys.stdout
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            soak = runner.run(
                run(Plan(seed=seed, seconds=wanted.minutes * 60), lambda line: print(line, file=file, flush=True))
            )
    for line in summary(soak):
        print(line, flush=True)
    return 1 if soak.model.violations else 0


if __name__ == "__main__":
    sys.exit(main())
