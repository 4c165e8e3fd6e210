"""`bytebrew doctor`."""

import sys

import click

from bytebrew.cli.doctor import examine
from bytebrew.cli.setup import Setup


@click.command()
@click.pass_obj
def doctor(setup: Setup) -> None:
    """Check plugins, port, file rights, database and keys, and try on the disk what `serve` needs."""
    findings = examine(setup.core(), setup.plugins, setup.warnings(), setup.environment)
    for finding in findings:
        click.echo(f"{'ok ' if finding.fine else 'BAD'} {finding.what}: {finding.words}")
    if not all(finding.fine for finding in findings):
        sys.exit(1)
