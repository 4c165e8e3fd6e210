"""`bytebrew status`: prints the state of the running engine."""

import sys
from collections.abc import Iterator

import click
import msgspec

from bytebrew.cli import status_socket
from bytebrew.cli.setup import Setup, counted
from bytebrew.nodes.node import BEAT_SECONDS, LEASE_SECONDS


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def show_status(setup: Setup, as_json: bool) -> None:
    """Show how the engine on the data folder is: health, turns, queues, models, plugins and disk.

    With workers it shows each of them. It is for the engine's own user and takes no token. Exit code 1 where the
    engine or one of its workers is not well, or none runs.
    """
    data = setup.core().data_dir
    workers = status_socket.fetch_workers(data)
    statuses = workers.workers if workers else (status_socket.fetch(data),)
    if as_json:
        click.echo(msgspec.json.encode(workers or statuses[0]).decode())
    else:
        for number, status in enumerate(statuses, 1):
            lines = _lines(status) if status else (("engine", "does not answer; its supervisor starts it again"),)
            for name, text in [("worker", f"{number} of {len(statuses)}")] * bool(workers) + [*lines]:
                click.echo(f"{name:<10} {text}")
    if any(status is None or status.status not in ("ok", "overloaded") for status in statuses):
        sys.exit(1)


def _lines(status: status_socket.Status) -> Iterator[tuple[str, str]]:
    message = f": {status.message}" if status.message else ""
    yield "engine", f"{status.status}{message}; ByteBrew {status.version}, process {status.process}, up {status.uptime}"
    turns = status.turns
    running = f"{turns.running} run, {turns.needs_input} of them wait for a person"
    yield "turns", f"{running}; {turns.waiting} wait for another"
    yield "", f"at most {turns.most}; {turns.refused} refused for want of place"
    yield "streams", f"{status.streams} open"
    yield "tasks", ", ".join(f"{count} {state}" for state, count in sorted(status.tasks.items())) or "none open"
    for model in status.models:
        again = f", tried again in {model.seconds} s" if model.breaker == "open" else ""
        yield "model", f"{model.name}: {counted(model.failures, 'failures')} lately, breaker {model.breaker}{again}"
    if not status.models:
        yield "models", "none has failed lately"
    yield "callers", f"{status.refused_callers} refused since the start"
    megabytes = [f"{size / 1e6:,.1f} MB" for size in (status.database_bytes, status.log_bytes, status.disk_free_bytes)]
    yield "disk", f"database {megabytes[0]}, its log {megabytes[1]}; {megabytes[2]} free"
    yield "database", status.database
    yield from _of_nodes(status.node) if status.node else ()
    for figure in status.plugins:
        labels = ", ".join(f"{name} {value}" for name, value in figure.labels.items())
        name = figure.name.removeprefix("bytebrew_")
        yield "plugin", f"{name}{f' ({labels})' if labels else ''}: {figure.value:g}"


def _of_nodes(node: status_socket.Node) -> Iterator[tuple[str, str]]:
    among = f"one of {len(node.others) + 1} on the database" if node.others else "alone on the database"
    leader = next((f"node {one.id} leads" for one in node.others if one.leads), "it leads")
    yield "node", f"{node.id}, {among}; {leader}; it renewed its lease {node.lease_seconds:.1f} s ago"
    for one in node.others:
        if one.silent_seconds is None:
            yield "", f"node {one.id} was not heard of since the database was away"
        elif one.silent_seconds > 3 * BEAT_SECONDS:
            silent = f"was not heard of for {one.silent_seconds:.1f} s"
            yield "", f"node {one.id} {silent}: it is ended at {LEASE_SECONDS:g}"
