"""The feed: what changes in the engine, as a stream of hints for whoever shows it."""

from bytebrew import Connection, Engine, Notification, Register, Route, StateKey, Subscriber, hookimpl

from . import changes
from .feed import Feed
from .routes import route

FEED = StateKey[Feed]("feed")


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    engine.state[FEED] = feed = Feed(engine)
    register(route(feed))


@hookimpl
def register_subscribers(register: Register[Subscriber], engine: Engine) -> None:
    def note_budget(conn: Connection, notification: Notification) -> None:
        if notification.name == "budget.near" and engine.state[FEED].is_watched(conn):
            changes.note(conn, "budget.near", notification.subject, notification.data)

    register(note_budget)


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[FEED].stop()
