"""Options of the engine's own that an operator changes while it runs."""

import logging
from typing import Literal

from bytebrew.contract.runtime_option import Option


def log_level(default: str) -> Option:
    """The least severe record to log."""
    return Option(
        key="log.level",
        type=Literal["debug", "info", "warning", "error"],
        default=default,
        help="least severe record to log, in the place of BYTEBREW_LOG_LEVEL",
        applied=lambda level: logging.getLogger().setLevel(level.upper()),
    )
