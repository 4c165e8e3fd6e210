"""`bytebrew status`."""

import sys
from collections.abc import Iterator

import click
import msgspec

from bytebrew.cli import status_socket
from bytebrew.cli.setup import Setup, counted


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def show_status(setup: Setup, as_json: bool) -> None:
    """Show how the engine on the data folder is: health, turns, queues, models, plugins and disk.

    It is for the engine's own user and takes no token. Exit code 1 where the engine is not well or none runs.
    """
    found = status_socket.ask(setup.core().data_dir)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        for name, words in _lines(found):
            click.echo(f"{name:<10} {words}")
    if found.status not in ("ok", "overloaded"):
        sys.exit(1)


def _lines(found: status_socket.Status) -> Iterator[tuple[str, str]]:
    words = f": {found.words}" if found.words else ""
    yield "engine", f"{found.status}{words}; ByteBrew {found.version}, process {found.process}, up {found.uptime}"
    turns = found.turns
    yield "turns", f"{turns.running} run, {turns.asking} of them wait for a person; {turns.waiting} wait for another"
    yield "", f"at most {turns.most}; {turns.refused} refused for want of place"
    yield "streams", f"{found.streams} open"
    yield "tasks", ", ".join(f"{count} {state}" for state, count in sorted(found.tasks.items())) or "none open"
    for model in found.models:
        again = f", tried again in {model.seconds} s" if model.breaker == "open" else ""
        yield "model", f"{model.name}: {counted(model.failures, 'failures')} lately, breaker {model.breaker}{again}"
    if not found.models:
        yield "models", "none has failed lately"
    yield "callers", f"{found.refused_callers} refused since the start"
    megabytes = [f"{size / 1e6:,.1f} MB" for size in (found.database_bytes, found.log_bytes, found.disk_free_bytes)]
    yield "disk", f"database {megabytes[0]}, its log {megabytes[1]}; {megabytes[2]} free"
    for one in found.plugins:
        labels = ", ".join(f"{name} {value}" for name, value in one.labels.items())
        yield "plugin", f"{one.name.removeprefix('bytebrew_')}{f' ({labels})' if labels else ''}: {one.value:g}"
