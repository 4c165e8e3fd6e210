"""Why there is no access token."""

from ..jsonrpc import RequestFailed


class OAuthError(Exception):
    """An authorization server or its metadata cannot be used; the message is in our own words.

    `code` is the error code of a token endpoint (RFC 6749 section 5.2). What is `passing` may work later.
    """

    def __init__(self, message: str, code: str = "", *, passing: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.passing = passing


class AuthorizationRequired(RequestFailed):
    """A user has to authorize the engine first, or again; the message is the reason."""
