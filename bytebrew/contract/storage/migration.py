"""A numbered change of a plugin's tables."""

from collections.abc import Sequence
from typing import NamedTuple

from bytebrew.contract.lists import Listing


class Migration(NamedTuple):
    """SQL that upgrades a plugin's tables by one version; numbers begin at 1 and have no gaps.

    A `Listing` among parts of the SQL creates and fills the tables of its totals, with the triggers that update them.
    Without a text for PostgreSQL, `sql` is translated: types, keys, `strict` and `without rowid`; triggers are not.
    """

    number: int
    sql: str | Sequence[str | Listing]
    postgres: str | Sequence[str | Listing] | None = None
