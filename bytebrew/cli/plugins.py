"""`bytebrew plugins`: lists plugins and their warnings."""

import click

from bytebrew.cli.setup import Setup


@click.command("plugins")
@click.pass_obj
def list_plugins(setup: Setup) -> None:
    """List plugins: name, version, distribution, state and hooks; and what is wrong with them."""
    for plugin in setup.plugins.list_all():
        hooks = ", ".join(plugin.hooks) or "-"
        click.echo(f"{plugin.name:<20} {plugin.version:<8} {plugin.distribution:<20} {plugin.state:<9} {hooks}")
    for warning in setup.warnings():
        click.echo(f"warning: {warning}", err=True)
