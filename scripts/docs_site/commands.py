"""The commands of `bytebrew`, those of plugins included, as their `--help` has them."""

import tempfile
from collections.abc import Iterator

import click

from bytebrew.cli.main import cli
from bytebrew.cli.setup import Setup
from bytebrew.plugins import Plugins

_WIDTH = 100


def pages() -> dict[str, str]:
    """What comes behind the page about commands."""
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup({"BYTEBREW_DATA_DIR": folder}, Plugins())
        setup.plugins.load((), None)
        setup.plugins.commands(cli, setup.opened)
        return {"reference/commands.md": "\n".join(_described(cli, click.Context(cli, info_name="bytebrew"), setup))}


def _described(command: click.Command, context: click.Context, setup: Setup) -> Iterator[str]:
    context.obj, context.max_content_width, context.terminal_width = setup, _WIDTH, _WIDTH
    yield f"## `{context.command_path}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _described(below, click.Context(below, parent=context, info_name=name), setup)
