"""Chooses the store of BYTEBREW_DATABASE_URL: the SQLite file, or one that a plugin registers."""

from bytebrew.base.errors import SettingsError
from bytebrew.base.settings import Settings
from bytebrew.contract.storage.store import Driver, Store
from bytebrew.plugins import Plugins, Registry
from bytebrew.store.sqlite.data_folder import DataFolder
from bytebrew.store.sqlite.driver import SQLiteDriver


def driver_of(plugins: Plugins, settings: Settings, folder: DataFolder) -> Driver:
    """The driver of the chosen store; SettingsError if no plugin registers it."""
    core = settings.core
    if not core.database_url:
        return SQLiteDriver(folder.database, core.db_synchronous)
    stores: Registry[Store] = Registry("store")
    plugins.declare("register_stores", lambda owner, store: stores.add(owner, store.scheme, store), settings=settings)
    scheme = core.database_url.partition("://")[0]
    if scheme not in stores:
        known = ", ".join(sorted(stores)) or "none"
        raise SettingsError(f"BYTEBREW_DATABASE_URL: no plugin registers a store for '{scheme[:20]}'; known: {known}")
    return stores[scheme].driver(core.database_url)
