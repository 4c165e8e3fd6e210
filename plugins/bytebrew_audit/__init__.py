"""The audit log: tool calls, changes over the API, and rejected logins."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from click import ClickException
from msgspec import Meta

from bytebrew import (
    Action,
    Connection,
    Engine,
    Migration,
    Opened,
    Option,
    PersonalData,
    Recorder,
    Register,
    Route,
    Step,
    expired_before,
    hookimpl,
)

from . import calls, changes, personal_data
from .audit_log import AuditLog
from .chain import CHAIN, Chain

if TYPE_CHECKING:
    from click import Group

KEPT = Option(
    key="retention.audit",
    type=Annotated[int, Meta(ge=0, le=36500)],
    default=0,
    help="days after which an entry of the audit is deleted; 0: never",
)


def _expiring(audit_log: AuditLog[Any]) -> Step:
    def expire_entries(conn: Connection) -> Sequence[object]:
        return audit_log.expire(conn, expired_before(conn, KEPT))

    return expire_entries


@hookimpl
def register_options(register: Register[Option]) -> None:
    register(KEPT)


@hookimpl
def register_retention(register: Register[Step], engine: Engine) -> None:
    def expire_changes(conn: Connection) -> Sequence[object]:
        return engine.state[changes.CHANGES].chain.expire(conn, expired_before(conn, KEPT))

    register(_expiring(calls.LEDGER))
    register(expire_changes)


@hookimpl
def register_personal_data(register: Register[PersonalData], engine: Engine) -> None:
    for kind in personal_data.kinds(engine.state[changes.CHANGES].chain):
        register(kind)


@hookimpl
def register_commands(cli: "Group", opened: Opened) -> None:
    @cli.group("audit")
    def audit() -> None:
        """The audit of changes; the engine may run."""

    @audit.command("verify")
    def verify() -> None:
        """Check that no entry was changed, removed or added; exit code 1 and the first broken entry if one was."""
        with opened() as (engine, conn):
            conn.execute("commit")  # of a transaction in which nobody else could write
            conn.execute("begin")
            for at in Chain(engine).verified(conn):
                result = at.result
        assert result is not None
        if (broken := result.broken) is not None:
            where = f"entry {broken.entry} " if broken.entry else ""
            raise ClickException(f"the audit is broken after {result.entries} entries: {where}{broken.reason}")
        sys.stdout.write(
            f"{result.entries} entries since {result.since}, {result.masked} masked; the last is "
            f"{result.last} with the hash {result.hash}\n"
        )


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    register(Migration(1, calls.TABLE + changes.TABLE))
    register(Migration(2, calls.COUNTS + changes.COUNTS))
    register(Migration(3, personal_data.MIGRATION))
    register(Migration(4, CHAIN))


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    register(calls.ROUTE)
    engine.state[changes.CHANGES] = audited = changes.Changes(engine)
    for route in audited.routes():
        register(route)


@hookimpl
def register_recorders(register: Register[Recorder], engine: Engine) -> None:
    register(engine.state[changes.CHANGES].store)


@hookimpl
async def startup(engine: Engine) -> None:
    await engine.db.write(calls.watch)
    await engine.state[changes.CHANGES].begin()


@hookimpl
async def actor_acted(engine: Engine, action: Action) -> None:
    if action.name == "auth.fail":
        await engine.state[changes.CHANGES].take(action)


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[changes.CHANGES].settle()
