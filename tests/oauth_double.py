"""An MCP server that wants access tokens, with its authorization server on the same port, and with every fault."""

import asyncio
import json
from base64 import b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

from tests.mcp_double import Web

RESOURCE, SERVER = "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"


class Authority(Web):
    """`oauth` says how it is: `metadata` and `resource` override fields of the documents, None removes one.

    Each token is a user's; sessions belong to the user who began them, as the specification wants.
    """

    def __init__(self, oauth: dict[str, Any] | None = None, **how: Any) -> None:
        super().__init__(**how)
        self.oauth = oauth or {}
        self.clients: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, dict[str, Any]] = {}
        self.access: dict[str, dict[str, Any]] = {}
        self.refresh: dict[str, dict[str, Any]] = {}
        self.owners: dict[str, str] = {}
        self.forms: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.paths: list[str] = []
        self.tokens_may_go = asyncio.Event()
        self.tokens_may_go.set()
        self._last = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metadata(self) -> dict[str, Any]:
        document = {
            "issuer": self.origin,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "registration_endpoint": f"{self.origin}/register",
            "revocation_endpoint": f"{self.origin}/revoke",
            "code_challenge_methods_supported": ["S256"],
            **self.oauth.get("metadata", {}),
        }
        return {name: value for name, value in document.items() if value is not None}

    def resource(self) -> dict[str, Any]:
        document = {"resource": self.url, "authorization_servers": [self.origin], **self.oauth.get("resource", {})}
        return {name: value for name, value in document.items() if value is not None}

    def authorize(self, url: str, user: str, **answer: str) -> str:
        """Where the authorization server leads a user who has signed in; `answer` overrides parameters."""
        assert url.startswith(self.metadata()["authorization_endpoint"]), url
        sent = dict(parse_qsl(urlsplit(url).query))
        assert (sent["response_type"], sent["code_challenge_method"]) == ("code", "S256")
        assert sent["resource"] == self.resource()["resource"]
        if client := self.clients.get(sent["client_id"]):
            assert sent["redirect_uri"] in client["redirect_uris"]
        code = self._new("code")
        self.codes[code] = sent | {"user": user}
        query = {"code": code, "state": sent["state"], **answer}
        return f"{sent['redirect_uri']}?{urlencode({name: value for name, value in query.items() if value})}"

    def _new(self, kind: str) -> str:
        self._last += 1
        return f"{kind}-{self._last}-{'s' * 20}"

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        self.paths.append(path)
        reply: Any = None
        if path in self.oauth.get("documents", {RESOURCE + "/mcp": self.resource, SERVER: self.metadata}):
            documents = self.oauth.get("documents", {RESOURCE + "/mcp": self.resource, SERVER: self.metadata})
            reply = 200, documents[path]()
        elif path.startswith("/authorize?"):
            reply = 302, b"", f"Location: {self.authorize(self.origin + path, self.oauth['signs_in'])}"
        elif path == "/register":
            reply = self._registered(json.loads(body))
        elif path in ("/token", "/revoke"):
            form = dict(parse_qsl(body.decode()))
            self.forms.append((path, form, headers))
            await self.tokens_may_go.wait()
            reply = self.oauth.get(f"{path[1:]}_answer") or (
                self._token(form, headers) if path == "/token" else self._revoked(form)
            )
        elif path == "/mcp":
            reply = self._refused(method, headers, body)
        if reply is None:
            await super()._answer(method, path, headers, body, writer)
            return
        status, content, *more = reply
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} Whatever", "Connection: close", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(raw)}", *more]
        writer.write("\r\n".join([*lines, "", ""]).encode() + raw)
        await writer.drain()

    def _refused(self, method: str, headers: dict[str, str], body: bytes) -> Any:
        """The challenge to a request that may not go on, None for one that may."""
        token = headers.get("authorization", "").removeprefix("Bearer ")
        known = self.access.get(token)
        document = f'resource_metadata="{self.origin}{RESOURCE}/mcp"'
        if known is None:
            challenge = self.oauth.get("challenge", f"Bearer {document}")
            return 401, b"no", *([f"WWW-Authenticate: {challenge}"] if challenge else [])
        message = json.loads(body) if body else {}
        tool = (message.get("params") or {}).get("name", "")
        wanted = self.oauth.get("scopes_of_tools", {}).get(tool)
        if wanted and wanted not in known["scope"].split():
            return 403, b"no", f'WWW-Authenticate: Bearer error="insufficient_scope", scope="{wanted}", {document}'
        if message.get("method") == "tools/list" and "lists" in self.oauth:
            self.how["more_tools"] = self.oauth["lists"].get(known["user"], [])
        session = headers.get("mcp-session-id", "")
        if session and self.owners.setdefault(session, known["user"]) != known["user"]:
            return 404, b"another's session"
        return None

    def _registered(self, wanted: dict[str, Any]) -> Any:
        if answer := self.oauth.get("register_answer"):
            return answer
        client = wanted | {"client_id": self._new("client")}
        if self.oauth.get("secrets"):
            client |= {"client_secret": self._new("secret"), "token_endpoint_auth_method": self.oauth["secrets"]}
        self.clients[client["client_id"]] = client
        return 201, client

    def _client(self, form: dict[str, Any], headers: dict[str, str]) -> str:
        if (basic := headers.get("authorization", "")).startswith("Basic "):
            name, _, secret = b64decode(basic[6:]).decode().partition(":")
            name, secret = unquote_plus(name), unquote_plus(secret)
        else:
            name, secret = form.get("client_id", ""), form.get("client_secret", "")
        known = {**self.clients, **self.oauth.get("clients", {})}.get(name)
        return name if known is not None and known.get("client_secret", "") == secret else ""

    def _token(self, form: dict[str, Any], headers: dict[str, str]) -> Any:
        client = self._client(form, headers)
        if not client and not form.get("client_id", "").startswith("https:"):
            return 401, {"error": "invalid_client", "error_description": "<b>hunter22</b>"}
        if form.get("resource") != self.resource()["resource"]:
            return 400, {"error": "invalid_target"}
        kind = form["grant_type"]
        if kind == "client_credentials":
            return self._issued({"user": client, "scope": form.get("scope", "")}, refreshes=False)
        if kind == "authorization_code":
            code = self.codes.pop(form["code"], None)
            digest = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
            if code is None or code["code_challenge"] != digest or code["redirect_uri"] != form["redirect_uri"]:
                return 400, {"error": "invalid_grant"}
            return self._issued(code)
        old = self.refresh.get(form["refresh_token"])
        if old is None:
            return 400, {"error": "invalid_grant"}
        if self.oauth.get("rotates", True):
            del self.refresh[form["refresh_token"]]
        return self._issued(old)

    def _issued(self, grant: dict[str, Any], *, refreshes: bool = True) -> Any:
        access, refresh = self._new("access"), self._new("refresh")
        self.access[access] = {"user": grant["user"], "scope": grant.get("scope", "")}
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": 3600, "scope": grant.get("scope", "")}
        if refreshes and self.oauth.get("refreshes", True):
            self.refresh[refresh] = grant
            answer["refresh_token"] = refresh
        return 200, {name: one for name, one in (answer | self.oauth.get("answer", {})).items() if one is not None}

    def _revoked(self, form: dict[str, Any]) -> Any:
        self.access.pop(form["token"], None)
        self.refresh.pop(form["token"], None)
        return 200, {}

    def issue_unheard(self) -> None:
        """Answers the last request for tokens, and nobody hears it."""
        _, form, headers = self.forms[-1]
        self._token(form, headers)

    def users(self) -> list[str]:
        """Whose tokens came with the calls of tools, in order."""
        calls = [one for one in self.server.seen if one["message"].get("method") == "tools/call"]
        return [self.access_user(one["headers"]) for one in calls]

    def access_user(self, headers: dict[str, str]) -> str:
        return str(self.access.get(headers["authorization"].removeprefix("Bearer "), {}).get("user", "gone"))


def state_of(url: str) -> str:
    """The state of an authorization address."""
    return parse_qs(urlsplit(url).query)["state"][0]
