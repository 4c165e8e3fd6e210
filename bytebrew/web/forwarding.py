"""Headers of a chat that tools may forward."""

from collections.abc import Mapping
from typing import Any

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.config.core_options import BODY_HEADERS
from bytebrew.contract.route import Request
from bytebrew.store import changed_options

OWN_KEY = "x-model-api-key"
"""The header of a caller's own key, which clients may send even if its plugin is disabled."""
PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization", OWN_KEY})
"""Headers that are never forwarded, like those of model choosers."""


async def body_headers(request: Request[Any], headers: Mapping[str, str], private: frozenset[str]) -> dict[str, str]:
    """The headers in a chat's body, in lower case.

    Raises InvalidRequest for one that is not on the operator's list: an authenticating gateway sets or strips such
    headers in the head of a request, but does not inspect bodies.
    """
    stored = await request.engine.db.read(changed_options.value, BODY_HEADERS.key, BODY_HEADERS.default)
    listed = {name.lower() for name in stored} - private
    words = f"may not come from the body; an admin lists in the setting {BODY_HEADERS.key} those that may"
    lowered = {name.lower(): value for name, value in headers.items()}
    if faults := [Detail(f"$.headers.{name[:100]}", words) for name in lowered if name not in listed]:
        raise InvalidRequest(f"{faults[0].path}: {words}", details=faults)
    return lowered
