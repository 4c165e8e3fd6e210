"""`bytebrew gc`: applies the retention settings and returns free pages to the disk."""

import click

from bytebrew.base import logs
from bytebrew.base.progress import Progress
from bytebrew.cli.setup import Setup
from bytebrew.store import retention


@click.command("gc")
@click.pass_obj
def collect_garbage(setup: Setup) -> None:
    """Clear away what is due and give its space back.

    The settings retention.* say what is due; the engine may run.
    """
    engine = setup.engine()
    with engine.migrated() as conn, Progress("clearing away", unit="rows and pages") as progress:
        swept = retention.sweep(engine.driver, conn, engine.retention.steps, progress.add)
    for line in (
        f"cleared away: {', '.join(f'{count} {what}' for what, count in swept.counts.items())}",
        f"{engine.driver.place} had {swept.before} bytes and has {swept.after}",
    ):
        click.echo(logs.printed(setup.core().log_format, line))
