"""The versions of the engine and of its plugin contract."""

import importlib.metadata

from bytebrew.built_from import COMMIT

__version__ = importlib.metadata.version("bytebrew")
CONTRACT = 3
"""The newest version of the contract; incremented when hooks, arguments or exported names are added."""
OLDEST_CONTRACT = 2
"""The oldest supported version; after 1.0.0 it is incremented only with the engine's major version."""


def commit() -> str:
    """The commit that the package was built from, with `-dirty` if files had been changed; "" if unknown."""
    return "" if COMMIT.startswith("$") else COMMIT


def unfit(needed: object) -> str:
    """Why a plugin that requires this version of the contract cannot run; empty if it can."""
    if type(needed) is not int:
        return f"its bytebrew_contract is {needed!r}; write a whole number, {CONTRACT} for this engine's"
    if needed > CONTRACT:
        return f"it needs contract {needed}, and bytebrew {__version__} has {CONTRACT}: install a newer bytebrew"
    if needed < OLDEST_CONTRACT:
        return f"it was written for contract {needed}, and bytebrew {__version__} honours {OLDEST_CONTRACT} and later"
    return ""
