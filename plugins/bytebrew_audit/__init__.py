"""The audit log: tool calls, changes over the API, and rejected logins."""

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from bytebrew import (
    Action,
    Connection,
    Engine,
    Migration,
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
def register_retention(register: Register[Step]) -> None:
    register(_expiring(calls.LEDGER))
    register(_expiring(changes.LEDGER))


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    register(Migration(1, calls.TABLE + changes.TABLE))
    register(Migration(2, calls.COUNTS + changes.COUNTS))
    register(Migration(3, personal_data.MIGRATION))


@hookimpl
def register_personal_data(register: Register[PersonalData]) -> None:
    for kind in personal_data.KINDS:
        register(kind)


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    register(calls.ROUTE)
    engine.state[changes.CHANGES] = audited = changes.Changes(engine)
    register(audited.route())


@hookimpl
def register_recorders(register: Register[Recorder], engine: Engine) -> None:
    register(changes.store)


@hookimpl
async def startup(engine: Engine) -> None:
    await engine.db.write(calls.watch)


@hookimpl
async def actor_acted(engine: Engine, action: Action) -> None:
    if action.name == "auth.fail":
        await engine.state[changes.CHANGES].take(action)


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[changes.CHANGES].settle()
