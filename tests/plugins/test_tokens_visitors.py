"""Visitors of a public page: one token for all to read, and an identity for each that nobody else has."""

import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from bytebrew_tokens.visitors import SECONDS
from bytebrew_tokens.visitors import VISITORS as KEY
from nacl.signing import SigningKey

from bytebrew.base.formats import new_uuid
from bytebrew.base.jwt import sign
from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ToolCall, Usage
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine
from tests.stored import tables
from tests.tables import SCOPES, check_refusal, token_with

VISITORS = "/api/v1/auth/visitors"
CHAT = "/api/v1/schemas/test/chat"
SESSIONS = "/api/v1/sessions"


class Site(NamedTuple):
    """An engine with a page's token, which is bound to the schema `test`."""

    engine: Engine
    admin: httpx.AsyncClient
    token: str

    async def visitor(self, **body: str) -> dict[str, str]:
        """The headers of a new visitor."""
        answer = await self.post(VISITORS, self.token, body)
        assert answer.status_code == 200, answer.text
        return {"authorization": f"Bearer {answer.json()['access_token']}"}

    async def post(self, path: str, token: str, body: Any) -> httpx.Response:
        return await self.admin.post(path, json=body, headers={"authorization": f"Bearer {token}"})


@asynccontextmanager
async def site(*answers: list[Any], **token: Any) -> AsyncIterator[Site]:
    provider = providing(ScriptedProvider(*(answers or ([MessageDelta(content="Hello"), Usage(3, 2)],))))
    async with served_engine(provider) as (engine, admin):
        await scripted_schema(engine)
        made = await token_with(engine, "public", name="page", **{"schemas": ("test",), **token})
        yield Site(engine, admin, made.token)


async def test_no_visitor_sees_changes_or_goes_on_with_what_another_one_said() -> None:
    async with site() as one:
        ada, bob = await one.visitor(), await one.visitor()
        said = await one.admin.post(CHAT, json={"message": "My name is Ada", "stream": False}, headers=ada)
        assert said.status_code == 200, said.text
        session = said.json()["session_id"]
        own = f"{SESSIONS}/{session}"
        for visitor, rows in ((ada, [session]), (bob, [])):
            page = (await one.admin.get(SESSIONS, headers=visitor)).json()
            assert ([row["id"] for row in page["data"]], page["total"]) == (rows, len(rows))
        for method, path in (
            ("GET", ""),
            ("GET", "/messages"),
            ("GET", "/events"),
            ("POST", "/cancel"),
            ("DELETE", ""),
        ):
            answer = await one.admin.request(method, own + path, headers=bob)
            assert answer.status_code == 404, (method, path)
        more = {"message": "and?", "session_id": session}
        assert (await one.admin.post(CHAT, json=more, headers=bob)).status_code == 404
        assert (await one.admin.get(own, headers=ada)).status_code == 200
        assert (await one.admin.delete(own, headers=ada)).status_code == 204


async def test_no_visitor_recalls_what_is_remembered_of_another_one() -> None:
    store, recall = ToolCall("memory_store", {"content": "Is called Ada"}), ToolCall("memory_recall", {"query": ""})
    done = MessageDelta(content="done")
    async with site([store], [done], [recall], [done], [recall], [done], view="full") as one:
        await one.admin.post("/api/v1/agents/test/capabilities", json={"type": "memory"})
        ada, bob = await one.visitor(), await one.visitor()
        outputs = []
        for visitor in (ada, bob, ada):
            said = (await one.admin.post(CHAT, json={"message": "hi", "stream": False}, headers=visitor)).json()
            outputs.append(said["tool_calls"][0]["output"])
    assert "Is called Ada" not in outputs[1]
    assert "Is called Ada" in outputs[2]


async def test_a_visitor_claims_to_be_nobody_else() -> None:
    async with site() as one:
        answer = await one.admin.post(CHAT, json={"message": "hi", "user_sub": "ada"}, headers=await one.visitor())
    assert (answer.status_code, check_refusal(answer)["error"]) == (403, "forbidden")


async def test_a_visitor_who_comes_again_is_the_same_one() -> None:
    async with site() as one:
        first = (await one.post(VISITORS, one.token, {})).json()
        again = (await one.post(VISITORS, one.token, {"access_token": first["access_token"]})).json()
        other = (await one.post(VISITORS, one.token, {})).json()
        assert first["visitor"] == again["visitor"] != other["visitor"]
        said = {"message": "hi", "stream": False}
        session = (await one.post(CHAT, first["access_token"], said)).json()["session_id"]
        headers = {"authorization": f"Bearer {again['access_token']}"}
        assert (await one.admin.get(f"{SESSIONS}/{session}", headers=headers)).status_code == 200


async def test_the_pages_token_itself_does_nothing_but_let_visitors_in() -> None:
    async with site() as one:
        headers = {"authorization": f"Bearer {one.token}"}
        assert (await one.post(CHAT, one.token, {"message": "hi"})).status_code == 403
        for path in (SESSIONS, f"{SESSIONS}/{new_uuid()}", "/api/v1/agents", "/api/v1/settings", "/api/v1/approvals"):
            assert (await one.admin.get(path, headers=headers)).status_code == 403, path


async def test_a_visitor_is_held_to_the_schemas_of_the_page() -> None:
    async with site() as one:
        answer = await one.admin.post("/api/v1/schemas/demo/chat", json={"message": "hi"}, headers=await one.visitor())
    assert answer.status_code == 403


async def test_a_visitor_goes_with_the_pages_token() -> None:
    async with site() as one:
        visitor = await one.visitor()
        assert (await one.admin.get(SESSIONS, headers=visitor)).status_code == 200
        await one.admin.delete("/api/v1/auth/tokens/page")
        assert (await one.admin.get(SESSIONS, headers=visitor)).status_code == 401
        assert (await one.post(VISITORS, one.token, {})).status_code == 401


async def test_a_visitors_token_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as one:
        visitor = await one.visitor()
        later = time.time() + SECONDS + 1
        monkeypatch.setattr("bytebrew_tokens.visitors.time.time", lambda: later)
        answer = await one.admin.get(SESSIONS, headers=visitor)
    assert answer.status_code == 401
    assert "POST /api/v1/auth/visitors" in answer.text


async def test_a_visitor_of_one_page_is_nobody_on_another() -> None:
    async with site() as one:
        other = await token_with(one.engine, "public", name="other")
        mine = (await one.post(VISITORS, one.token, {})).json()["access_token"]
        assert (await one.post(VISITORS, other.token, {"access_token": mine})).status_code == 401


def forged(engine: Engine) -> list[str]:
    """Tokens that the engine has not made for a visitor, some sealed with its own key for another purpose."""
    path = engine.data_dir / "keys" / "secrets.key"
    token, visitor = engine.state[KEY].new("page")
    raw = Secrets.load(path).seal(f'["page", "{visitor.id}", {visitor.expires}]')
    others = [base64.urlsafe_b64encode(sealed).decode() for sealed in (raw, raw[::-1], b"", b"x")]
    broken = [token[:-4] + "AAAA", token[:40], token + "A", token.upper(), token[:60] + "*" + token[61:]]
    return [*broken, *(f"bbv_{text}" for text in others), "bbv_\x7f", "bbv_" + "A" * 5000]


async def test_a_token_that_the_engine_has_not_made_for_a_visitor_is_refused() -> None:
    async with site() as one:
        for token in forged(one.engine):
            for answer in (
                await one.admin.get(SESSIONS, headers={"authorization": f"Bearer {token}"}),
                await one.post(VISITORS, one.token, {"access_token": token}),
            ):
                assert answer.status_code in (400, 401), token


@pytest.mark.parametrize("other", sorted(SCOPES.keys() - {"public"}))
async def test_the_scope_of_a_page_stands_alone(other: str, shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.post("/api/v1/auth/tokens", json={"name": "t", "scopes": ["public", other]})
    assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, "$.scopes")


async def test_only_the_token_of_a_page_lets_visitors_in() -> None:
    async with site() as one:
        chat = (await token_with(one.engine, "chat")).token
        assert (await one.post(VISITORS, chat, {})).status_code == 403
        assert (await one.post(VISITORS, await _token_of(one.admin), {})).status_code == 400
        assert (await one.post(VISITORS, (await one.visitor())["authorization"][7:], {})).status_code == 403


async def _token_of(client: httpx.AsyncClient) -> str:
    return client.headers["authorization"].removeprefix("Bearer ")


async def test_visitors_count_as_their_page_in_usage_and_in_limits_per_token() -> None:
    async with site() as one:
        rule = {"name": "tokens", "per": "token", "tiers": {"all": {"requests": 5}}}
        await one.admin.post("/api/v1/rate-limits", json=rule)
        codes = []
        for _ in range(3):
            visitor = await one.visitor()
            codes.append(
                (await one.admin.post(CHAT, json={"message": "hi", "stream": False}, headers=visitor)).status_code
            )
        assert codes == [200, 200, 429]
        rows = (await one.admin.get("/api/v1/usage?group_by=token")).json()["data"]
    assert [row["key"] for row in rows] == ["page"]


def sizes(conn: Connection) -> dict[str, int]:
    return {name: conn.execute(f'select count(*) from "{name}"').fetchone()[0] for name in tables(conn)}


async def test_a_user_of_another_issuer_who_is_called_as_a_visitor_of_somebody_counts_alone(tmp_path: Path) -> None:
    name, issuer = "ada:visitor:x", SigningKey.generate()
    (tmp_path / "issuer").write_text(bytes(issuer.verify_key).hex())
    settings = {
        "BYTEBREW_AUTH_MODE": "external",
        "BYTEBREW_JWT_PUBLIC_KEY_PATH": str(tmp_path / "issuer"),
        "BYTEBREW_JWT_AUDIENCE": "*",
    }
    provider = providing(ScriptedProvider([MessageDelta(content="Hello"), Usage(3, 2)]))
    async with served_engine(provider, settings=settings) as (engine, admin):
        await scripted_schema(engine)
        bearer = {"authorization": f"Bearer {sign({'sub': name, 'exp': time.time() + 60}, issuer)}"}
        assert (await admin.post(CHAT, json={"message": "hi", "stream": False}, headers=bearer)).status_code == 200
        used = await engine.db.read(lambda conn: [row[0] for row in conn.execute("select subject from usage")])
    assert used == [f"user:{name}"]


async def test_a_crowd_of_visitors_leaves_nothing_in_the_file() -> None:
    async with site() as one:
        await one.visitor()
        before = await one.engine.db.read(sizes)
        for _ in range(20):
            await one.visitor()
        assert await one.engine.db.read(sizes) == before
