"""The engine as a client of an authorization server: configured, by a metadata document, or registered."""

from base64 import b64encode
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from ..config import ServerRow
from .discovery import CODE, Issuer
from .endpoints import Endpoints, is_loopback
from .errors import OAuthError

CALLBACK = "/api/v1/oauth/callback"
DOCUMENT = "/api/v1/oauth/client.json"
"""Path of the Client ID Metadata Document; its URL is the client's id."""
NAME = "ByteBrew"
GRANTS = ("authorization_code", "refresh_token")
BASIC, POST, NONE = "client_secret_basic", "client_secret_post", "none"
_METHODS = (BASIC, POST)


class Client(Struct, frozen=True):
    """A client id with its secret and how that is sent to the token endpoint; `expires_at` is 0 if the secret stays."""

    id: str
    secret: str = ""
    method: str = NONE
    expires_at: int = 0

    def authenticate(self, form: dict[str, str]) -> dict[str, str]:
        """Adds the client to a form (RFC 6749 section 2.3.1); returns the headers to send with it."""
        form["client_id"] = self.id  # the official SDK's servers want it with HTTP Basic too
        if self.method == BASIC:
            pair = f"{quote(self.id, safe='')}:{quote(self.secret, safe='')}"
            return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        if self.method == POST:
            form["client_secret"] = self.secret
        return {}


class Registered(Struct, frozen=True):
    """The answer to a registration (RFC 7591 section 3.2.1)."""

    client_id: str
    client_secret: str | None = None
    client_secret_expires_at: int | None = None
    token_endpoint_auth_method: str | None = None


def metadata(redirect_uri: str) -> dict[str, object]:
    """The client's metadata (RFC 7591 section 2), without a client id."""
    native = is_loopback(urlsplit(redirect_uri).hostname or "")
    return {
        "client_name": NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": GRANTS,
        "response_types": ["code"],
        "token_endpoint_auth_method": NONE,
        "application_type": "native" if native else "web",
    }


def document(public_url: str) -> dict[str, object]:
    """The Client ID Metadata Document of an engine with this public URL."""
    return {"client_id": public_url + DOCUMENT, "client_uri": public_url, **metadata(public_url + CALLBACK)}


def configured(server: ServerRow, secret: str, issuer: Issuer | None = None) -> Client | None:
    """The client that the operator has registered, if there is one."""
    if not server.auth_client_id:
        return None
    return Client(server.auth_client_id, secret, _method(issuer) if secret else NONE)


def by_document(issuer: Issuer, public_url: str) -> Client | None:
    """The client whose id is the URL of its metadata, if the authorization server supports that."""
    if not issuer.client_id_metadata_document_supported or not public_url.startswith("https://"):
        return None
    return Client(public_url + DOCUMENT)


async def register(endpoints: Endpoints, issuer: Issuer, redirect_uri: str, scopes: tuple[str, ...]) -> Client:
    """Registers a client with an authorization server (RFC 7591)."""
    if not issuer.registration_endpoint:
        raise OAuthError("The authorization server registers no clients: set auth_client_id of the MCP server")
    wanted = metadata(redirect_uri) | ({"scope": " ".join(scopes)} if scopes else {})
    methods = issuer.token_endpoint_auth_methods_supported
    if methods and NONE not in methods:
        wanted["token_endpoint_auth_method"] = _method(issuer)
    status, body = await endpoints.post(issuer.registration_endpoint, "registration endpoint", json=wanted)
    if status not in (200, 201):
        raise refusal(status, body, "registration of a client")
    try:
        registered = msgspec.json.decode(body, type=Registered)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OAuthError("The answer to the registration of a client is malformed") from error
    secret = registered.client_secret or ""
    method = registered.token_endpoint_auth_method or (BASIC if secret else NONE)
    if method not in (*_METHODS, NONE) or (method != NONE and not secret):
        raise OAuthError("The authorization server registered a client that authenticates itself in an unknown way")
    if method == NONE:
        return Client(registered.client_id)
    return Client(registered.client_id, secret, method, registered.client_secret_expires_at or 0)


def refusal(status: int, body: bytes, what: str) -> OAuthError:
    """The exception for an error of an endpoint (RFC 6749 section 5.2), of which only the code is repeated."""

    class Refused(Struct):
        error: str = ""

    try:
        code = msgspec.json.decode(body, type=Refused).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        code = ""
    code = code if CODE.fullmatch(code) else ""
    reason = code or f"HTTP {status}"
    return OAuthError(
        f"The authorization server refuses the {what}: {reason}", code, passing=status >= 500 or status == 429
    )


def _method(issuer: Issuer | None) -> str:
    """How a secret is sent: as the server prefers, by default with HTTP Basic (RFC 8414 section 2)."""
    methods = issuer.token_endpoint_auth_methods_supported if issuer else None
    if methods is None:
        return BASIC
    if found := next((method for method in methods if method in _METHODS), None):
        return found
    raise OAuthError("The authorization server takes no client secret: client_secret_basic and _post are unknown to it")
