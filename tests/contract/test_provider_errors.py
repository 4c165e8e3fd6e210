"""What a vendor's error becomes: the code of its status, unless the vendor says more."""

import pytest

from bytebrew import Fault, UpstreamError, provider_error

BROKEN = "The vendor broke its answer off with an error"


@pytest.mark.parametrize(
    ("fault", "status", "expected"),
    [
        (Fault("no"), 400, ("HTTP 400: no", "model_bad_request", False)),
        (Fault(), 500, ("HTTP 500: body", "model_unavailable", True)),
        (Fault("no", vague_code="model_context_too_long"), 400, ("HTTP 400: no", "model_context_too_long", False)),
        (Fault("no", vague_code="model_context_too_long"), 429, ("HTTP 429: no", "model_rate_limited", True)),
        (Fault("no", code="model_auth"), 429, ("HTTP 429: no", "model_auth", True)),
        (Fault("spent", retry=False), 429, ("HTTP 429: spent", "model_rate_limited", False)),
        (Fault("late", 503), 200, ("late", "model_overloaded", True)),
        (Fault(), 200, ("The vendor sent this in place of a stream of events: body", "model_error", False)),
        (Fault("late", 503), None, ("late", "model_overloaded", True)),
        (Fault(), None, (BROKEN, "model_error", False)),
        (Fault(vague_code="model_context_too_long"), None, (BROKEN, "model_context_too_long", False)),
    ],
)
def test_a_fault_has_the_code_of_its_status_unless_the_vendor_says_more(
    fault: Fault, status: int | None, expected: tuple[str, str, bool]
) -> None:
    answer = None if status is None else UpstreamError(status, b"body", None)
    error = provider_error(fault, answer)
    assert (error.message, error.code, error.retry) == expected


def test_the_wait_that_a_fault_names_counts_before_that_of_the_headers() -> None:
    answer = UpstreamError(429, b"", 7.0)
    assert provider_error(Fault("later"), answer).retry_after == 7.0
    assert provider_error(Fault("later", retry_after=3.5), answer).retry_after == 3.5
