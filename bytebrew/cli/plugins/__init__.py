"""`bytebrew plugins`: lists plugins; its subcommands make, test, install and lock them without running them."""

import click

from bytebrew.cli.plugins import check, install, new
from bytebrew.cli.setup import Setup


@click.group("plugins", invoke_without_command=True)
@click.pass_context
def plugins(invoked: click.Context) -> None:
    """List plugins: name, version, distribution, state, contract and hooks; and what is wrong with them.

    A command makes a new plugin, tests one, or fills the folder that BYTEBREW_PLUGINS_DIR names.
    """
    if invoked.invoked_subcommand is None:
        _list(invoked.obj)


def _list(setup: Setup) -> None:
    for plugin in setup.plugins.list_all():
        hooks, contract = ", ".join(plugin.hooks) or "-", f"contract>={plugin.requires}" if plugin.requires else "-"
        named = f"{plugin.name:<20} {plugin.version:<8} {plugin.distribution:<20} {plugin.state:<9}"
        click.echo(f"{named} {contract:<12} {hooks}")
    for warning in setup.warnings():
        click.echo(f"warning: {warning}", err=True)


for _command in (new.new, check.test, install.install, install.remove, install.lock):
    plugins.add_command(_command)
