"""Turns exceptions of HTTP libraries into error messages for people."""

import socket
import ssl
from collections.abc import Iterator

import httpx

from bytebrew.base.errors import ProviderError


class TooLong(Exception):
    """A header is too long."""


def unreachable(origin: str, error: Exception, seconds: float) -> ProviderError:
    """The error for a request without an answer; `seconds` is the connect timeout."""
    refused = any(isinstance(one, PermissionError) for one in _causes(error))  # refused by the address policy
    message = f"Cannot reach {origin}: {why(error, seconds)}"
    return ProviderError(message, code="model_unavailable", retry=not refused)


def no_http(origin: str, error: Exception) -> ProviderError:
    """The error for malformed response headers."""
    long = any(isinstance(one, TooLong) for one in _causes(error))
    message = f"{origin} does not speak HTTP: " + ("a header is too long" if long else "its answer is malformed")
    return ProviderError(message, code="model_unavailable", retry=True)


def broken_off(error: Exception) -> ProviderError:
    """The error for an incomplete body."""
    message = f"The vendor's stream broke off: {why(error)}"
    return ProviderError(message, code="model_unavailable", retry=True)


def why(error: Exception, seconds: float = 0) -> str:
    """The reason of a failed request, from the innermost cause that is known."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection came about; does it speak https?"
        if isinstance(cause, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(cause, TimeoutError | httpx.TimeoutException) and seconds:
            return f"no connection within {seconds:g} s"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(cause, ConnectionResetError):
            return "the connection was closed"
        if isinstance(cause, httpx.RemoteProtocolError):
            return "it ended before it was whole"
        if isinstance(cause, httpx.InvalidURL):  # httpx parses the target of a redirect even if it does not follow it
            return "it redirects to what is no URL"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return "the connection failed"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The causes of an error, innermost first: it says most about the network."""
    causes: list[BaseException] = []
    while error not in causes:
        causes.append(error)
        inner = getattr(error, "os_error", None) or error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return reversed(causes)
