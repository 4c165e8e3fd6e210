"""Pages of other origins: what each client sends from a browser is allowed, and what it reads is shown to it."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import pytest

from bytebrew.testing import served_engine

PAGE = "https://shop.example"
STAINLESS = (
    "arch, helper-method, lang, os, package-version, poll-helper, retry-count, runtime, runtime-version, timeout"
)


class Client(NamedTuple):
    """A request of a client in a browser, by its sources: the headers that it sends and those that it reads."""

    method: str
    path: str
    sends: str
    reads: str


CLIENTS = {
    "bytebrew-client": Client(
        *("POST", "/api/v1/schemas/demo/chat", "authorization, content-type, idempotency-key"),
        "x-session-id, x-turn-id, x-request-id, retry-after",
    ),
    "bytebrew-client, which reads on": Client(
        *("GET", "/api/v1/sessions/x/events", "authorization, last-event-id"), "x-session-id, x-request-id, retry-after"
    ),
    "openai": Client(
        *("POST", "/v1/chat/completions"),
        "authorization, content-type, idempotency-key, openai-organization, openai-project, "
        + ", ".join(f"x-stainless-{name}" for name in STAINLESS.split(", ")),
        "x-request-id, retry-after",
    ),
    "openai, a response that it cancels": Client(
        "POST", "/v1/responses/x/cancel", "authorization, x-stainless-lang", "x-request-id, retry-after"
    ),
    "openai, a response that it deletes": Client(
        "DELETE", "/v1/responses/x", "authorization, x-stainless-lang", "x-request-id, retry-after"
    ),
    "ai": Client(
        *("POST", "/ai-sdk/demo/chat", "authorization, content-type, user-agent"), "x-vercel-ai-ui-message-stream"
    ),
    "ai, which resumes": Client(
        *("GET", "/ai-sdk/demo/chat/x/stream", "authorization, user-agent"), "x-vercel-ai-ui-message-stream"
    ),
    "@ag-ui/client": Client("POST", "/ag-ui/demo", "authorization, content-type", "x-session-id, retry-after"),
    "@modelcontextprotocol/client": Client(
        *("POST", "/mcp"),
        "authorization, content-type, mcp-method, mcp-name, mcp-param-city, mcp-protocol-version, mcp-session-id",
        "mcp-session-id, www-authenticate, retry-after",
    ),
    "@modelcontextprotocol/sdk, which resumes": Client(
        *("GET", "/mcp", "authorization, last-event-id, mcp-protocol-version, mcp-session-id"), "www-authenticate"
    ),
    "@modelcontextprotocol/sdk, which ends": Client(
        "DELETE", "/mcp", "authorization, mcp-protocol-version, mcp-session-id", "www-authenticate"
    ),
    "@modelcontextprotocol/sdk, which looks for an authorization server": Client(
        "GET", "/.well-known/oauth-protected-resource/mcp", "mcp-protocol-version", "retry-after"
    ),
}


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[httpx.AsyncClient]:
    """An engine that lets one page in."""
    async with served_engine(settings={"BYTEBREW_CORS_ORIGINS": PAGE}) as (_, http):
        yield http


def listed(answer: httpx.Response, header: str) -> set[str]:
    return {name.strip().lower() for name in answer.headers.get(header, "").split(",") if name}


def wants(client: Client, origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": client.method,
        "Access-Control-Request-Headers": client.sends.replace(" ", ""),
    }


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_page_of_an_allowed_origin_may_send_and_read_what_its_client_does(
    engine: httpx.AsyncClient, name: str
) -> None:
    client = CLIENTS[name]
    preflight = await engine.options(client.path, headers=wants(client, PAGE))
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in preflight.headers  # a token is shown, and no cookie
    assert set(client.sends.split(", ")) <= listed(preflight, "access-control-allow-headers")
    assert client.method.lower() in listed(preflight, "access-control-allow-methods")
    answer = await engine.request(client.method, client.path, headers={"Origin": PAGE, "Authorization": "Bearer none"})
    assert answer.status_code < 500
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert set(client.reads.split(", ")) <= listed(answer, "access-control-expose-headers")


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("origin", ["https://other.example", "null", "https://shop.example.evil.example"])
async def test_a_page_of_any_other_origin_may_not(engine: httpx.AsyncClient, name: str, origin: str) -> None:
    client = CLIENTS[name]
    preflight = await engine.options(client.path, headers=wants(client, origin))
    answer = await engine.request(client.method, client.path, headers={"Origin": origin})
    for one in (preflight, answer):
        assert not [header for header in one.headers if header.startswith("access-control")]
        assert one.headers["vary"] == "Origin"
