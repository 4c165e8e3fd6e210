"""Opens the connections of a database."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from bytebrew.base.errors import BootError
from bytebrew.contract.storage.store import Driver, StoreConnection
from bytebrew.store.database.aiosqlite_fixes import WorkConnection, open_connection


async def open_in_thread(opened: AsyncExitStack, driver: Driver, *, read_only: bool = False) -> WorkConnection:
    """A connection that the stack closes: a running thread would keep the process alive."""
    try:
        connection = await open_connection(partial(driver.open, read_only=read_only), driver.error)
    except (driver.error, MemoryError) as error:
        raise _cannot_be_opened(driver, error) from error
    opened.push_async_callback(connection.close)
    return connection


def open_near(driver: Driver, is_late: Callable[[], bool]) -> StoreConnection | None:
    """The driver's connection for the event loop's thread, if the database is near."""
    try:
        return driver.near(is_late)
    except (driver.error, MemoryError) as error:
        raise _cannot_be_opened(driver, error) from error


def _cannot_be_opened(driver: Driver, error: BaseException) -> BootError:
    return BootError(f"{driver.place} cannot be opened: {str(error) or 'there is not enough memory'}")
