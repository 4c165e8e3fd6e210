"""Why a request failed on its way, in our own sentences: what a library calls it means nothing to a reader."""

import socket
import ssl
from collections.abc import Iterator

import httpx
from aiohttp import ClientConnectionResetError, ClientPayloadError, ServerDisconnectedError
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from bytebrew.base.errors import ProviderError


def unreachable(origin: str, error: Exception, seconds: float) -> ProviderError:
    """The failure of a request to which no answer began; `seconds` is how long a connection may take."""
    refused = any(isinstance(one, PermissionError) for one in _causes(error))  # the address is one that is not called
    words = f"Cannot reach {origin}: {why(error, seconds)}"
    return ProviderError(words, code="model_unavailable", retry=not refused)


def no_http(origin: str, error: Exception) -> ProviderError:
    """The failure of an answer whose head cannot be read."""
    long = any(isinstance(one, LineTooLong) for one in _causes(error))
    words = f"{origin} does not speak HTTP: " + ("a header is too long" if long else "its answer is malformed")
    return ProviderError(words, code="model_unavailable", retry=True)


def broken_off(error: Exception) -> ProviderError:
    """The failure of a body that does not come to its end."""
    words = f"The vendor's stream broke off: {why(error)}"
    return ProviderError(words, code="model_unavailable", retry=True)


def why(error: Exception, seconds: float = 0) -> str:
    """The reason of a failed request, by the innermost cause that says one."""
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
        if isinstance(cause, ConnectionResetError | ClientConnectionResetError | ServerDisconnectedError):
            return "the connection was closed"
        if isinstance(cause, ClientPayloadError | BadHttpMessage):
            return "it ended before it was whole"
        if isinstance(cause, httpx.InvalidURL):  # the client reads where a redirect leads, though it does not go there
            return "it redirects to what is no URL"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return "the connection failed"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What led to an error, from the innermost cause on: the outer ones put it in a library's own terms."""
    found: list[BaseException] = []
    while error not in found:
        found.append(error)
        inner = getattr(error, "os_error", None) or error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return reversed(found)
