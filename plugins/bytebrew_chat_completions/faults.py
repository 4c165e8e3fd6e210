"""What a vendor of this wire says when it refuses or breaks off."""

import re
from typing import Any, NamedTuple

import msgspec

from bytebrew import ProviderError, UpstreamError, refusal

_STATUS = {
    "invalid_request_error": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "server_error": 500,
    "overloaded_error": 503,
    "server_overloaded": 503,
    "service_unavailable": 503,
}
"""The HTTP status that an error in the middle of a stream would have had."""
_SPENT = frozenset({"insufficient_quota", "1113"})  # https://docs.z.ai/api-reference/api-code: 1113 is no balance
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (prompt|input) length|(prompt|input) is too long"
    r"|prompt exceeds max length",  # https://docs.z.ai/api-reference/api-code: 1261
    re.IGNORECASE,
)


class Fault(NamedTuple):
    """What an error body says: the vendor's words, its names for the error, and a status where the body has one."""

    words: str = ""
    names: tuple[str, ...] = ()
    status: int | None = None


def refused(error: UpstreamError) -> ProviderError:
    """The failure that an HTTP answer other than a stream stands for."""
    try:
        fault = _fault(msgspec.json.decode(error.body))
    except (msgspec.DecodeError, RecursionError):
        fault = Fault()
    if error.status < 400 and fault.words:
        return _broken_off(fault)
    return _refined(refusal(error, fault.words), fault)


def broken_off(error: Any) -> ProviderError:
    """The failure that an `error` in the middle of a stream stands for."""
    return _broken_off(_fault({"error": error}))


def _broken_off(fault: Fault) -> ProviderError:
    words = fault.words[:1000] or "The vendor broke its answer off with an error"
    status = fault.status or next((_STATUS[name] for name in fault.names if name in _STATUS), None)
    if status is None:
        return _refined(ProviderError(words), fault)
    like = refusal(UpstreamError(status, b"", None))
    return _refined(ProviderError(words, code=like.code, retry=like.retry), fault)


def _refined(failure: ProviderError, fault: Fault) -> ProviderError:
    if _SPENT.intersection(fault.names):
        failure.retry = False
    elif failure.code in ("model_bad_request", "model_error"):
        if any(_TOO_LONG.search(text) for text in (fault.words, *fault.names)):
            failure.code = "model_context_too_long"
        elif fault.words.startswith(
            "Incorrect API key"
        ):  # xAI's status is 400: https://docs.x.ai/docs/key-information/debugging
            failure.code = "model_auth"
    return failure


def _fault(said: Any) -> Fault:
    """The fault in `{"error": {...}}`, `{"error": "text"}`, `{"message": ...}`, `{"detail": ...}` or a list of one."""
    if isinstance(said, list) and said:
        said = said[0]
    if not isinstance(said, dict):
        return Fault()
    error = said.get("error")
    if isinstance(error, str):
        return Fault(error)
    inner = error if isinstance(error, dict) else said
    words = inner.get("message") or inner.get("detail") or ""
    names = (inner.get("code"), inner.get("type"))
    return Fault(
        _text(words) + _cause(inner),
        tuple(name for name in names if isinstance(name, str)),
        next((status for name in names if (status := _status(name))), None),
    )


def _status(name: Any) -> int | None:
    """The HTTP status that a code is, as a number or in digits."""
    return int(name) if re.fullmatch("[45][0-9]{2}", str(name)) else None


def _cause(error: dict[str, Any]) -> str:
    """What stands behind an error: OpenRouter's vendor in its own words, or the categories of Azure's filter."""
    match error:
        case {"metadata": {"raw": raw}} if raw:  # https://openrouter.ai/docs/api-reference/errors
            return f" ({_text(raw)})"
        case {"innererror": {"content_filter_result": dict(found)}}:
            # https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
            filtered = [name for name, of in found.items() if isinstance(of, dict) and of.get("filtered")]
            return f" (filtered: {', '.join(filtered)})" if filtered else ""
    return ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
