"""A plugin for the engine under test: /metrics say how many tasks its event loop has."""

import asyncio

from bytebrew import Engine, Sample, hookimpl


@hookimpl
def collect_metrics(engine: Engine) -> list[Sample]:
    """The tasks that have not ended."""
    return [Sample("soak_tasks", len(asyncio.all_tasks()), help="Tasks of the event loop.")]
