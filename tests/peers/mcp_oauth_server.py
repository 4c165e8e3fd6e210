# mypy: ignore-errors
"""An MCP server with OAuth by the official SDK or FastMCP, whose authorization server has a sign-in page.

Arguments: `sdk` or `fastmcp`, the port, and how many seconds an access token is valid.
"""

import secrets
import sys
import time

from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions, RevocationOptions
from mcp.shared.auth import OAuthToken
from starlette.responses import HTMLResponse, RedirectResponse

KIND, PORT, SECONDS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ORIGIN = f"http://127.0.0.1:{PORT}"
REGISTRATION = ClientRegistrationOptions(enabled=True, valid_scopes=["use"], default_scopes=["use"])


class People:
    """An authorization server in memory: each person signs in with a name, and refresh tokens rotate."""

    def __init__(self, **more):
        super().__init__(**more)
        self.clients, self.requests, self.codes, self.access, self.refresh = {}, {}, {}, {}, {}

    async def get_client(self, client_id):
        return self.clients.get(client_id)

    async def register_client(self, client_info):
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client, params):
        request = secrets.token_urlsafe()
        self.requests[request] = client, params
        return f"{ORIGIN}/sign-in?request={request}"

    async def sign_in(self, request):
        if request.method == "GET":
            return HTMLResponse(f"<form method=post><input name=name> {request.query_params['request']}</form>")
        name = (await request.form())["name"]
        client, params = self.requests.pop(request.query_params["request"])
        code = AuthorizationCode(
            code=secrets.token_urlsafe(),
            scopes=params.scopes or ["use"],
            expires_at=time.time() + 60,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
            subject=name,
        )
        self.codes[code.code] = code
        where = construct_redirect_uri(str(params.redirect_uri), code=code.code, state=params.state, iss=self.issuer)
        return RedirectResponse(where, 302)

    async def load_authorization_code(self, client, authorization_code):
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(self, client, authorization_code):
        del self.codes[authorization_code.code]
        return self.issue(client, authorization_code, authorization_code.scopes)

    async def load_refresh_token(self, client, refresh_token):
        return self.refresh.get(refresh_token)

    async def exchange_refresh_token(self, client, refresh_token, scopes):
        del self.refresh[refresh_token.token]
        return self.issue(client, refresh_token, scopes)

    def issue(self, client, grant, scopes):
        until = int(time.time()) + SECONDS
        common = {"client_id": client.client_id, "scopes": scopes, "subject": grant.subject, "resource": grant.resource}
        access = AccessToken(token=f"a.{secrets.token_urlsafe()}", expires_at=until, **common)
        refresh = RefreshToken(token=f"r.{secrets.token_urlsafe()}", **common)
        self.access[access.token], self.refresh[refresh.token] = access, refresh
        return OAuthToken(
            access_token=access.token, expires_in=SECONDS, scope=" ".join(scopes), refresh_token=refresh.token
        )

    async def load_access_token(self, token):
        access = self.access.get(token)
        return access if access is not None and access.expires_at > time.time() else None

    verify_token = load_access_token

    async def revoke_token(self, token):
        self.access.pop(token.token, None)
        self.refresh.pop(token.token, None)


if KIND == "sdk":
    from mcp.server import MCPServer
    from mcp.server.auth.middleware.auth_context import get_access_token

    people = People()
    people.issuer = ORIGIN
    server = MCPServer(
        "peer",
        auth_server_provider=people,
        auth=AuthSettings(
            issuer_url=ORIGIN,
            resource_server_url=f"{ORIGIN}/mcp",
            validate_token_resource=True,
            required_scopes=["use"],
            client_registration_options=REGISTRATION,
            revocation_options=RevocationOptions(enabled=True),
        ),
    )
else:
    from fastmcp import FastMCP
    from fastmcp.server.auth.auth import OAuthProvider
    from fastmcp.server.dependencies import get_access_token

    class Provider(People, OAuthProvider):
        """The same for FastMCP."""

    people = Provider(
        base_url=ORIGIN,
        required_scopes=["use"],
        client_registration_options=REGISTRATION,
        revocation_options=RevocationOptions(enabled=True),
    )
    people.issuer = f"{ORIGIN}/"
    server = FastMCP("peer", auth=people)

server.custom_route("/sign-in", methods=["GET", "POST"])(people.sign_in)


@server.tool()
def whoami() -> str:
    """Whose token the call has."""
    token = get_access_token()
    return f"{token.subject} {people.access[token.token].resource}"


@server.tool()
def live() -> str:
    """How many tokens are valid."""
    return f"{len(people.access)} {len(people.refresh)}"


if KIND == "sdk":
    server.run("streamable-http", host="127.0.0.1", port=PORT)
else:
    server.run("streamable-http", host="127.0.0.1", port=PORT, show_banner=False, log_level="ERROR")
