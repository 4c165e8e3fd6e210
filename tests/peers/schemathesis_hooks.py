"""Gives each request of schemathesis an Idempotency-Key of its own, as one that comes again replays an older answer."""

from itertools import count
from typing import Any

import schemathesis

KEY = "Idempotency-Key"
_numbers = count()


@schemathesis.hook  # type: ignore[untyped-decorator]  # it is not installed beside the engine
def before_call(context: Any, case: Any, **options: Any) -> None:
    """Makes the key of a request that is meant to be right the only one."""
    right = case.meta is None or case.meta.generation.mode.is_positive
    if right and case.headers and KEY in case.headers:
        case.headers[KEY] = f"{case.headers[KEY][:100]}-{next(_numbers)}"
