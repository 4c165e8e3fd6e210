"""Maps the error bodies of vendors with the chat completions API to ProviderError."""

import re
from typing import Any

import msgspec

from bytebrew import Fault, ProviderError, UpstreamError, provider_error

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
"""HTTP status by error name, for errors in the middle of a stream."""
_SPENT = frozenset({"insufficient_quota", "1113"})  # 1113: no balance, https://docs.z.ai/api-reference/api-code
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (prompt|input) length|(prompt|input) is too long"
    r"|prompt exceeds max length",  # https://docs.z.ai/api-reference/api-code: 1261
    re.IGNORECASE,
)


def refused(answer: UpstreamError) -> ProviderError:
    """The error for an HTTP response that is not a stream."""
    try:
        body = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError):
        body = None
    return provider_error(_fault(body), answer)


def broken_off(error: Any) -> ProviderError:
    """The error for an `error` in the middle of a stream."""
    return provider_error(_fault({"error": error}))


def _fault(body: Any) -> Fault:
    """The fault in `{"error": {...}}`, `{"error": "text"}`, `{"message": ...}`, `{"detail": ...}` or a list of them."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Fault()
    error = body.get("error")
    if isinstance(error, str):
        return _named(error)
    error = error if isinstance(error, dict) else body
    message = _text(error.get("message") or error.get("detail") or "") + _cause(error)
    codes = (error.get("code"), error.get("type"))
    return _named(
        message,
        tuple(code for code in codes if isinstance(code, str)),
        next((status for code in codes if (status := _status(code))), None),
    )


def _named(message: str, names: tuple[str, ...] = (), status: int | None = None) -> Fault:
    """The fault of a message, the vendor's names for it, and a status if the body has one."""
    status = status or next((_STATUS[name] for name in names if name in _STATUS), None)
    if _SPENT.intersection(names):
        return Fault(message, status, retry=False)
    too_long = any(_TOO_LONG.search(text) for text in (message, *names))
    wrong_key = message.startswith("Incorrect API key")  # with status 400: docs.x.ai/docs/key-information/debugging
    code = "model_context_too_long" if too_long else "model_auth" if wrong_key else ""
    return Fault(message, status, vague_code=code)


def _status(code: Any) -> int | None:
    """The HTTP status in a code, a number or digits."""
    return int(code) if re.fullmatch("[45][0-9]{2}", str(code)) else None


def _cause(error: dict[str, Any]) -> str:
    """The cause of an error: the message of the vendor behind OpenRouter, or Azure's filter categories."""
    match error:
        case {"metadata": {"raw": raw}} if raw:  # https://openrouter.ai/docs/api-reference/errors
            return f" ({_text(raw)})"
        case {"innererror": {"content_filter_result": dict(results)}}:
            # https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
            filtered = [name for name, of in results.items() if isinstance(of, dict) and of.get("filtered")]
            return f" (filtered: {', '.join(filtered)})" if filtered else ""
    return ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
