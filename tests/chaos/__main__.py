"""`python -m tests.chaos`: seeds one after the other."""

import argparse
import asyncio
import random
import signal
import sys

import uvloop

from tests.chaos.seed import run, summary


def main() -> int:
    """The number of seeds with violations, as an exit code of 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Chaos by seeds against a real engine.")
    parser.add_argument("--seed", type=int, help="the first seed; by chance where it is left out")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long each seed runs")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, each one more than the one before")
    wanted = parser.parse_args()
    first = wanted.seed if wanted.seed is not None else random.randrange(10**6)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # which ends the engine too
    failed = []
    for seed in range(first, first + wanted.seeds):
        print(f"seed {seed}: make chaos SEED={seed} MINUTES={wanted.minutes:g}", flush=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            model = runner.run(run(seed, wanted.minutes * 60))
        print(summary(model), flush=True)
        if model.violations:
            failed.append(seed)
    print(f"{wanted.seeds} seeds, {len(failed)} with violations{': ' if failed else ''}{', '.join(map(str, failed))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
