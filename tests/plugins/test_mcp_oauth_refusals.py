"""What an authorization server, a browser or a stranger may not do, each with the words that say so."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from bytebrew_mcp.oauth.challenges import challenge_of
from bytebrew_mcp.oauth.discovery import Issuer, canonical
from bytebrew_mcp.oauth.endpoints import Endpoints
from bytebrew_mcp.oauth.errors import OAuthError

from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine
from tests.oauth_double import RESOURCE, SERVER, Authority, state_of
from tests.plugins.test_mcp import PATH, World, world
from tests.plugins.test_mcp_oauth import BROWSER, CONNECTIONS, OAUTH, ask, begin, connect, own, user
from tests.tables import check_refusal

CALLBACK = "/api/v1/oauth/callback"


@asynccontextmanager
async def public(url: str = "https://agents.example") -> AsyncIterator[World]:
    """An engine that people know under this origin."""
    model = ScriptedProvider([])
    async with served_engine(providing(model), settings={"BYTEBREW_PUBLIC_URL": url}) as (engine, client):
        await scripted_schema(engine, mcp_servers=("double",))
        yield World(engine, client, model)


def told(answer: httpx.Response) -> str:
    """What a page says."""
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text.partition("<p>")[2].partition("</p>")[0].replace("&#x27;", "'")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no PKCE": ({"metadata": {"code_challenge_methods_supported": None}}, "does not support PKCE with S256"),
    "plain PKCE": ({"metadata": {"code_challenge_methods_supported": ["plain"]}}, "does not support PKCE with S256"),
    "another issuer": ({"metadata": {"issuer": "https://evil.example"}}, "is that of another issuer"),
    "a token endpoint in the clear": ({"metadata": {"token_endpoint": "http://evil.example/t"}}, "is not https"),
    "an endpoint that is no web page": ({"metadata": {"authorization_endpoint": "javascript:alert(1)"}}, "is no URL"),
    "an endpoint with a user": ({"metadata": {"token_endpoint": "https://a:b@evil.example/t"}}, "is no URL"),
    "no way to register": ({"metadata": {"registration_endpoint": None}}, "set auth_client_id"),
    "a refused registration": (
        {"register_answer": (400, {"error": "invalid_redirect_uri", "error_description": "<b>x</b>"})},
        "refuses the registration of a client: invalid_redirect_uri",
    ),
    "a registration in vain": ({"register_answer": (201, {"client": 1})}, "registration of a client is malformed"),
    "a client by a key": (
        {"register_answer": (201, {"client_id": "x", "token_endpoint_auth_method": "private_key_jwt"})},
        "authenticates itself in an unknown way",
    ),
    "another resource": ({"resource": {"resource": "https://other.example/mcp"}}, "is for another resource"),
    "no authorization server": ({"resource": {"authorization_servers": []}}, "names no authorization server"),
    "an issuer in the clear": (
        {"resource": {"authorization_servers": ["http://evil.example"]}},
        "The authorization server that it names is not https",
    ),
    "metadata of another type": (
        {"metadata": {"token_endpoint": 7}},
        "metadata of the authorization server is malformed",
    ),
    "no metadata": ({"documents": {}}, "There is no metadata of the protected resource where the server says"),
    "no metadata at all": ({"documents": {}, "challenge": ""}, "The authorization server has no metadata"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_an_authority_that_cannot_be_trusted_is_refused_in_words(case: str) -> None:
    oauth, words = REFUSED[case]
    async with Authority(oauth) as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        refused = await w.client.post(f"{CONNECTIONS}/double")
        assert refused.status_code == 409
        body = check_refusal(refused)
        assert words in body["message"]
        assert (body["error"], "<b>" in body["message"]) == ("authorization_unavailable", False)
        assert (await own(w.client))["state"] == "needs_authorization"


FOUND: dict[str, Callable[[Authority], dict[str, Any]]] = {
    "at the root": lambda web: {"documents": {RESOURCE: web.resource, SERVER: web.metadata}, "challenge": ""},
    "by OpenID Connect": lambda web: {
        "documents": {RESOURCE + "/mcp": web.resource, "/.well-known/openid-configuration": web.metadata}
    },
    "of a tenant": lambda web: {
        "documents": {RESOURCE + "/mcp": web.resource, SERVER + "/t/1": web.metadata},
        "resource": {"authorization_servers": [f"{web.origin}/t/1"]},
        "metadata": {"issuer": f"{web.origin}/t/1"},
    },
    "of a tenant, by OpenID Connect behind the path": lambda web: {
        "documents": {RESOURCE + "/mcp": web.resource, "/t/1/.well-known/openid-configuration": web.metadata},
        "resource": {"authorization_servers": [f"{web.origin}/t/1"]},
        "metadata": {"issuer": f"{web.origin}/t/1"},
    },
    "without RFC 9728": lambda web: {"documents": {SERVER: web.metadata}, "challenge": "Bearer"},
    "of the whole origin": lambda web: {"resource": {"resource": web.origin}},
    "with a slash behind the issuer": lambda web: {"resource": {"authorization_servers": [f"{web.origin}/"]}},
    "behind other challenges": lambda web: {
        "challenge": f'Basic realm="a, b", Bearer realm="x", resource_metadata="{web.origin}{RESOURCE}/mcp"'
    },
    "with a client secret by Basic": lambda web: {"secrets": "client_secret_basic"},
    "with a client secret in the form": lambda web: {"secrets": "client_secret_post"},
    "with iss": lambda web: {"metadata": {"authorization_response_iss_parameter_supported": True}},
}


@pytest.mark.parametrize("way", FOUND)
async def test_an_authority_is_found_wherever_the_specification_has_it(way: str) -> None:
    async with Authority() as web, world() as w:
        web.oauth |= FOUND[way](web)
        await w.add(url=web.url, **OAUTH)
        answer = await connect(w.client, web, "Ann", iss=web.metadata()["issuer"])
        assert answer.status_code == 200, told(answer)
        assert not (await ask(w, w.client, "structured"))["has_error"]


async def test_scopes_come_from_the_challenge_before_the_metadata_and_the_operator_has_the_last_word() -> None:
    async with Authority({"resource": {"scopes_supported": ["a", "b"]}}) as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        assert parse_qs(urlsplit(await begin(w.client)).query)["scope"] == ["a b"]
        web.oauth["challenge"] = f'Bearer scope="c d", resource_metadata="{web.origin}{RESOURCE}/mcp"'
        assert parse_qs(urlsplit(await begin(w.client)).query)["scope"] == ["c d"]
        web.oauth["metadata"] = {"scopes_supported": ["offline_access"]}
        assert parse_qs(urlsplit(await begin(w.client)).query)["scope"] == ["c d offline_access"]
        del web.oauth["metadata"]
        await w.client.patch(f"{PATH}/double", json={"auth_scopes": ["e"]})
        assert parse_qs(urlsplit(await begin(w.client)).query)["scope"] == ["e"]


async def test_a_configured_client_stays_with_its_issuer() -> None:
    async with Authority({"clients": {"mine": {}}}) as web, world() as w:
        await w.add(url=web.url, **OAUTH, auth_client_id="mine", auth_issuer="https://b.example")
        refused = check_refusal(await w.client.post(f"{CONNECTIONS}/double"))
        assert "names another authorization server than its auth_issuer" in refused["message"]
        await w.client.patch(f"{PATH}/double", json={"auth_issuer": web.origin})
        assert (await connect(w.client, web, "Ann")).status_code == 200
        assert web.clients == {}


async def test_a_client_is_known_by_its_document_where_that_is_supported() -> None:
    async with Authority({"metadata": {"client_id_metadata_document_supported": True}}) as web, public() as w:
        await w.add(url=web.url, **OAUTH)
        sent = parse_qs(urlsplit(await begin(w.client)).query)
        document = await w.client.get("/api/v1/oauth/client.json", headers={"Authorization": ""})
        assert (
            sent["client_id"] == ["https://agents.example/api/v1/oauth/client.json"] == [document.json()["client_id"]]
        )
        assert sent["redirect_uri"] == ["https://agents.example" + CALLBACK] == document.json()["redirect_uris"]
        assert document.json()["application_type"] == "web"
        assert web.clients == {}


async def test_without_a_public_address_a_foreign_host_begins_nothing_and_there_is_no_document() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        for host in ("evil.example", "6.6.6.6:8443", "localhost.evil.example"):
            refused = await w.client.post(f"{CONNECTIONS}/double", headers={"Host": host})
            assert refused.status_code == 422
            assert "BYTEBREW_PUBLIC_URL" in check_refusal(refused)["message"]
        assert (await w.client.get("/api/v1/oauth/client.json")).status_code == 404
        sent = parse_qs(urlsplit(await begin(w.client)).query)
        assert sent["redirect_uri"] == [f"{str(w.client.base_url).rstrip('/')}{CALLBACK}"]
        assert next(iter(web.clients.values()))["application_type"] == "native"


ANSWERS: dict[str, tuple[dict[str, str], str]] = {
    "another issuer": ({"iss": "https://evil.example"}, "from another authorization server"),
    "another issuer's error": (
        {"iss": "https://evil.example", "code": "", "error": "access_denied"},
        "from another authorization server",
    ),
    "no issuer": ({}, "does not name the authorization server"),
    "a user who refuses": ({"iss": "own", "code": "", "error": "access_denied"}, "answers: access_denied"),
    "an error with a tag": ({"iss": "own", "code": "", "error": "<b>x</b>"}, "answers: an error"),
    "a forged code": ({"iss": "own", "code": "forged"}, "refuses the token: invalid_grant"),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_does_not_fit_connects_nothing(case: str) -> None:
    sent, words = ANSWERS[case]
    oauth = {"metadata": {"authorization_response_iss_parameter_supported": True}}
    async with Authority(oauth) as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        sent = sent | ({"iss": web.origin} if sent.get("iss") == "own" else {})
        answer = await connect(w.client, web, "Ann", **sent)
        assert (answer.status_code, words in told(answer)) == (400, True), told(answer)
        assert (await own(w.client))["state"] == "needs_authorization"


TOKENS: dict[str, tuple[dict[str, Any], str]] = {
    "another type": ({"answer": {"token_type": "mac"}}, "tokens of an unknown type"),
    "a token for a header": ({"answer": {"access_token": "a\r\nX-Other: 1"}}, "a token that is none"),
    "no token": ({"answer": {"access_token": None}}, "The answer of the token endpoint is malformed"),
    "a redirect": ({"token_answer": (302, b"", "Location: http://127.0.0.1:1/")}, "refuses the token: HTTP 302"),
    "too much": ({"token_answer": (200, b"x" * 300_000)}, "answers with more than"),
    "a page": ({"token_answer": (200, b"<html>")}, "The answer of the token endpoint is malformed"),
}


@pytest.mark.parametrize("case", TOKENS)
async def test_a_token_that_does_not_fit_is_not_kept(case: str) -> None:
    oauth, words = TOKENS[case]
    async with Authority(oauth) as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        answer = await connect(w.client, web, "Ann")
        assert (answer.status_code, words in told(answer)) == (400, True), told(answer)
        assert (await own(w.client))["state"] == "needs_authorization"


async def test_a_state_is_valid_once_and_for_the_last_that_was_begun() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        for query in ("", "?state=", "?state=x&code=y", "?state=%01"):
            answer = await w.client.get(CALLBACK + query, headers=BROWSER | {"Authorization": ""})
            assert (answer.status_code, "used before, or it has expired" in told(answer)) == (400, True)
            refused = await w.client.get(CALLBACK + query)  # by what is no browser
            assert (refused.status_code, check_refusal(refused)["error"]) == (400, "invalid_request")
        first = web.authorize(await begin(w.client), "Ann")
        second = web.authorize(await begin(w.client), "Ann")
        assert "used before" in told(await w.client.get(first, headers=BROWSER))
        assert (await w.client.head(second)).status_code == 200, "a scanner of links uses nothing up"
        assert (await w.client.get(second, headers=BROWSER)).status_code == 200
        issued = len(web.access)
        assert "used before" in told(await w.client.get(second, headers=BROWSER))
        assert (len(web.access), (await own(w.client))["state"]) == (issued, "connected")


async def test_two_answers_at_once_make_one_connection() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        where = web.authorize(await begin(w.client), "Ann")
        answers = await asyncio.gather(*(w.client.get(where, headers=BROWSER) for _ in range(4)))
        assert sorted(one.status_code for one in answers) == [200, 400, 400, 400]
        assert len([path for path, *_ in web.forms if path == "/token"]) == 1


async def test_another_browser_is_asked_for_whom_it_connects() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        async with user(w) as mallory, httpx.AsyncClient(base_url=w.client.base_url) as victim:
            where = web.authorize(await begin(mallory), "Victim")
            page = await victim.get(where, headers=BROWSER)
            assert page.status_code == 200
            assert "Connect 'double' for" in told(page)
            assert "close this page" in told(page)
            assert (await own(mallory))["state"] == "needs_authorization"
            assert web.access == {}, "no code was sent on"
            assert page.headers["referrer-policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
            forged = await victim.get(where, headers={b"Cookie": "bytebrew_oauth=forg\u00e9d".encode("latin-1")})
            assert "Connect 'double' for" in told(forged)
            assert (await victim.get(f"{where}&confirm=yes")).status_code == 200
            assert (await own(mallory))["state"] == "connected"


async def test_the_cookie_is_for_the_callback_alone() -> None:
    async with Authority() as web, public() as w:
        await w.add(url=web.url, **OAUTH)
        cookie = (await w.client.post(f"{CONNECTIONS}/double")).headers["set-cookie"]
        for part in (f"Path={CALLBACK}", "HttpOnly", "SameSite=Lax", "Secure", "Max-Age=600"):
            assert part in cookie.split("; ")


async def test_a_server_that_moves_gets_no_credentials_of_its_old_address() -> None:
    async with Authority() as web, Authority() as other, world() as w:
        await w.add(url=web.url, **OAUTH)
        await connect(w.client, web, "Ann")
        where = web.authorize(await begin(w.client), "Ann")
        moved = await w.client.patch(f"{PATH}/double", json={"url": other.url})
        assert moved.status_code == 200, moved.text
        assert (await own(w.client))["state"] == "needs_authorization"
        assert "was changed meanwhile" in told(await w.client.get(where, headers=BROWSER))
        refused = await ask(w, w.client, "structured")
        assert refused["has_error"]
        assert all("authorization" not in headers for _, headers in other.requests)


async def test_only_ones_own_connections_are_seen_and_ended() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        async with user(w) as ann, user(w, "models:read") as stranger:
            await connect(ann, web, "Ann")
            assert (await own(w.client))["state"] == "needs_authorization"
            await w.client.delete(f"{CONNECTIONS}/double")
            assert (await own(ann))["state"] == "connected"
            for method, path in (("GET", CONNECTIONS), ("POST", f"{CONNECTIONS}/double")):
                assert (await stranger.request(method, path)).status_code == 403
                assert (await stranger.request(method, path, headers={"Authorization": ""})).status_code == 401
            for name in ("nothing", "x" * 300):
                assert (await ann.post(f"{CONNECTIONS}/{name}")).status_code == 404


async def test_a_caller_with_the_public_view_has_no_connections() -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        body = {"name": "widget", "scopes": ["chat"], "view": "public"}
        made = await w.client.post("/api/v1/auth/tokens", json=body)
        headers = {"Authorization": f"Bearer {made.json()['token']}"}
        for method, path in (("GET", CONNECTIONS), ("POST", f"{CONNECTIONS}/double")):
            assert (await w.client.request(method, path, headers=headers)).status_code == 403


class Listener:
    """Counts the connections to a port of this machine."""

    def __init__(self) -> None:
        self.count = self.port = 0

    async def __aenter__(self) -> "Listener":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_a_public_server_leads_the_engine_to_no_private_address(host: str) -> None:
    async with Listener() as inside, world(servers=()) as w:
        endpoints = Endpoints(w.engine.http, "https://93.184.215.14/mcp")
        with pytest.raises(OAuthError, match="cannot be reached"):
            await endpoints.get(f"https://{host}:{inside.port}/", "metadata", Issuer)
        assert inside.count == 0
        with pytest.raises(OAuthError, match="is not https"):
            await endpoints.get(f"http://{host}:{inside.port}/", "metadata", Issuer)
        private = Endpoints(w.engine.http, "https://127.0.0.1/mcp")
        with pytest.raises(OAuthError, match="cannot be reached"):
            await private.get(f"https://{host}:{inside.port}/", "metadata", Issuer)
        assert inside.count == 1, "for a private server it is called"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", ("", None, "")),
        ("Bearer", ("", None, "")),
        ('Basic realm="Bearer", resource_metadata="https://a"', ("", None, "")),
        ('bearer error="insufficient_scope",scope="a b a"', ("insufficient_scope", ("a", "b"), "")),
        ('Bearer scope="", resource_metadata=https://a/b?c=d', ("", (), "https://a/b?c=d")),
        (r'Bearer realm="a \" scope=\"x", scope="y"', ("", ("y",), "")),
        ('Negotiate abc==, Bearer error="invalid_token"', ("invalid_token", None, "")),
        ('Bearer scope="a', ("", ("a",), "")),
        ("Bearer " + "a=b, " * 5000, ("", None, "")),
    ],
)
def test_challenges_are_read(header: str, found: tuple[str, Any, str]) -> None:
    challenge = challenge_of({"www-authenticate": header})
    if header.endswith('"a'):  # an open quote is no value at all
        assert challenge.scopes in (None, ("a",))
    else:
        assert tuple(challenge) == found


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("HTTPS://A.test/", "https://a.test"),
        ("https://a.test", "https://a.test"),
        ("https://a.test/MCP/", "https://a.test/MCP/"),
        ("https://a.test/?t=1#x", "https://a.test/?t=1"),
    ],
)
def test_the_uri_of_a_server_is_canonical(url: str, uri: str) -> None:
    assert canonical(url) == uri


def test_a_state_is_in_the_address() -> None:
    assert state_of("https://a.test/authorize?state=x&code_challenge=y") == "x"


def id_token(claims: Any) -> str:
    return f"e30.{urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"


ODD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "seconds in words": ({"expires_in": "3600"}, {}),
    "no seconds": ({"expires_in": None}, {"expires_at": None}),
    "seconds without end": ({"expires_in": 1e308}, {}),
    "seconds before now": ({"expires_in": -5}, {}),
    "the type in capitals": ({"token_type": "BEARER"}, {}),
    "many scopes": ({"scope": " ".join(f"s{n}" for n in range(5000))}, {"scopes": [f"s{n}" for n in range(100)]}),
    "scopes that are none": ({"scope": 'a "b" \u00e4 a'}, {"scopes": ["a"]}),
    "an account": ({"id_token": id_token({"sub": "7", "email": "ann@a.test"})}, {"account": "ann@a.test"}),
    "an account that hides": ({"id_token": id_token({"sub": "a\u202eb"})}, {"account": "a[U+202E]b"}),
    "an account of a number": ({"id_token": id_token({"sub": 7, "name": ["x"]})}, {"account": ""}),
    "a list of claims": ({"id_token": id_token([1])}, {"account": ""}),
    "no JWT": ({"id_token": "a.\u00e4.b"}, {"account": ""}),
}


@pytest.mark.parametrize("case", ODD)
async def test_an_odd_answer_of_a_token_endpoint_is_taken_for_what_it_says(case: str) -> None:
    answer, shown = ODD[case]
    async with Authority({"answer": answer}) as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        assert (await connect(w.client, web, "Ann")).status_code == 200
        assert (await own(w.client)).items() >= shown.items()
        assert not (await ask(w, w.client, "structured"))["has_error"]


@pytest.mark.parametrize(
    "document", [b"[" * 100_000, b"\xff\xfe", b"{" + b" " * 300_000 + b"}", b"null", b'{"issuer":"x"}', b"<html>"]
)
async def test_metadata_of_any_bytes_is_refused_in_words(document: bytes) -> None:
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        for path in (RESOURCE + "/mcp", SERVER):
            web.oauth["documents"] = {RESOURCE + "/mcp": web.resource, SERVER: web.metadata, path: lambda: document}
            assert (await w.client.post(f"{CONNECTIONS}/double")).status_code == 409


async def test_an_authorization_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bytebrew_mcp.oauth.endpoints.SECONDS", 0.3)
    async with Authority() as web, world() as w:
        await w.add(url=web.url, **OAUTH)
        where = web.authorize(await begin(w.client), "Ann")
        web.tokens_may_go.clear()
        assert "token endpoint cannot be reached" in told(await w.client.get(where, headers=BROWSER))
        assert "The server cannot be reached" in await refused_for(w, f"http://127.0.0.1:{await closed_port()}/mcp")


async def refused_for(w: World, url: str) -> str:
    """Why users cannot connect to a server with this URL."""
    await w.client.patch(f"{PATH}/double", json={"url": url})
    return str(check_refusal(await w.client.post(f"{CONNECTIONS}/double"))["message"])


async def closed_port() -> int:
    async with Listener() as listener:
        return listener.port
