"""Models over REST."""

import pytest

from bytebrew.base.errors import ProviderError
from bytebrew.testing import ScriptedProvider, chat, providing, served_engine
from tests.tables import check_refusal

URL = "/api/v1/models"
NEW = {"name": "m", "type": "demo", "model_name": "x", "api_key": "sk-one-two-three"}


async def test_a_key_is_sealed_kept_when_empty_and_never_shown() -> None:
    async with served_engine() as (engine, client):
        made = await client.post(URL, json=NEW)
        assert (made.status_code, made.json()["has_api_key"]) == (201, True)

        async def key() -> str:
            row = await engine.db.read(lambda c: c.execute("select sealed_key from models where name='m'").fetchone())
            assert b"one-two" not in row["sealed_key"]
            return engine.secrets.open(row["sealed_key"])

        assert await key() == "sk-one-two-three"
        kept = await client.put(f"{URL}/m", json={"api_key": "", "model_name": "y"})
        assert (kept.json()["model_name"], kept.json()["has_api_key"]) == ("y", True)
        assert await key() == "sk-one-two-three"
        await client.patch(f"{URL}/m", json={"api_key": "sk-four"})
        assert await key() == "sk-four"
        for answer in (made, kept, await client.get(URL), await client.get(f"{URL}/m")):
            assert "sk-" not in answer.text


async def test_a_model_is_found_by_its_number_too() -> None:
    async with served_engine() as (_, client):
        made = (await client.post(URL, json=NEW)).json()
        assert (await client.get(f"{URL}/{made['id']}")).json() == made
        assert (await client.get(f"{URL}/999")).status_code == 404


async def test_one_model_is_the_default_always() -> None:
    async with served_engine() as (_, client):
        await client.post(URL, json={**NEW, "is_default": True})
        rows = {row["name"]: row["is_default"] for row in (await client.get(URL)).json()}
        assert rows == {"demo": False, "m": True}
        assert (await client.patch(f"{URL}/m", json={"is_default": False})).status_code == 400
        await client.patch(f"{URL}/demo", json={"is_default": True})
        assert (await client.delete(f"{URL}/m")).status_code == 204


async def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    async with served_engine() as (_, client):
        answer = await client.post(URL, json={**NEW, "type": "oracle"})
        assert answer.status_code == 400
        assert "openai_compatible" in answer.json()["message"]
        assert answer.json()["details"][0]["path"] == "$.type"


async def test_a_model_in_use_is_not_deleted_and_its_agents_are_listed() -> None:
    async with served_engine() as (_, client):
        answer = await client.delete(f"{URL}/demo")
    assert answer.status_code == 409
    assert answer.json()["details"] == [{"path": "$.agents", "message": "demo"}]


async def test_a_base_url_must_be_one() -> None:
    async with served_engine() as (_, client):
        for url in ("ftp://x", "javascript:alert(1)", "http://", "http://a b", "http://x\n"):
            answer = await client.post(URL, json={**NEW, "base_url": url})
            assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "$.base_url")


@pytest.mark.parametrize("alias", ["openai", "openai-compatible"])
async def test_other_names_of_a_type_are_read_and_stored_as_its_own(alias: str) -> None:
    async with served_engine() as (_, client):
        made = await client.post(URL, json={**NEW, "type": alias})
        assert (made.status_code, made.json()["type"]) == (201, "openai_compatible")
        await client.patch(f"{URL}/m", json={"type": "demo"})
        assert (await client.patch(f"{URL}/m", json={"type": alias})).json()["type"] == "openai_compatible"


async def test_put_and_patch_merge() -> None:
    fields = {"base_url": "http://a.test", "api_version": "1", "pricing_input": 1, "pricing_output": 2}
    async with served_engine() as (_, client):
        made = (await client.post(URL, json={**NEW, **fields})).json()
        for method in ("PUT", "PATCH"):
            changed = await client.request(method, f"{URL}/m", json={"model_name": method})
            assert changed.status_code == 200
            expected = {**made, "model_name": method, "updated_at": changed.json()["updated_at"]}
            assert changed.json() == expected == (await client.get(f"{URL}/m")).json()
        for name, value in (("name", "other"), ("kind", "embedding")):
            answer = await client.patch(f"{URL}/m", json={name: value})
            assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, f"$.{name}")
            assert (await client.patch(f"{URL}/m", json={name: made[name]})).status_code == 200


# What a provider needs


AZURE = {"name": "m", "type": "azure_openai", "model_name": "deployment", "base_url": "http://a.test", "api_key": "k"}


@pytest.mark.parametrize("missing", [("base_url",), ("api_key",), ("api_key", "base_url")])
async def test_a_model_that_lacks_what_its_provider_needs_is_refused_and_not_stored(missing: tuple[str, ...]) -> None:
    async with served_engine() as (_, client):
        answer = await client.post(URL, json={name: value for name, value in AZURE.items() if name not in missing})
        assert answer.status_code == 400
        said = check_refusal(answer)
        assert said["message"] == f"A model of type 'azure_openai' needs {' and '.join(missing)}"
        assert [detail["path"] for detail in said["details"]] == [f"$.{name}" for name in missing]
        assert (await client.get(f"{URL}/m")).status_code == 404


async def test_a_change_that_takes_away_what_a_provider_needs_is_refused_and_not_stored() -> None:
    async with served_engine() as (_, client):
        made = await client.post(URL, json=AZURE)
        assert made.status_code == 201, made.text
        answer = await client.patch(f"{URL}/m", json={"base_url": "", "api_key": "k", "model_name": "other"})
        assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, "$.base_url")
        assert (await client.get(f"{URL}/m")).json() == made.json()
        await client.post(URL, json={"name": "n", "type": "demo", "model_name": "x"})
        answer = await client.patch(f"{URL}/n", json={"type": "azure_openai", "api_key": "k"})
        assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, "$.base_url")
        assert (await client.get(f"{URL}/n")).json()["has_api_key"] is False


async def test_a_stored_key_goes_to_no_address_that_it_was_not_given_for() -> None:
    async with served_engine() as (_, client):
        await client.post(URL, json={**NEW, "base_url": "https://old.example"})
        moved = {"base_url": "https://new.example"}
        for body in (moved, {**moved, "api_key": ""}, {"base_url": ""}):
            answer = await client.patch(f"{URL}/m", json=body)
            assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, "$.api_key")
        assert (await client.patch(f"{URL}/m", json={**moved, "api_key": "another"})).status_code == 200
        assert (await client.patch(f"{URL}/m", json={**moved, "model_name": "y"})).status_code == 200


@pytest.mark.parametrize("type_", ["google", "openrouter", "deepseek", "mistral", "xai", "zai"])
async def test_a_vendor_with_an_address_of_its_own_needs_a_key_alone(type_: str) -> None:
    async with served_engine() as (_, client):
        for key, status in (("", 400), ("k", 201)):
            model = {"name": "m", "type": type_, "model_name": "x", "api_key": key}
            assert (await client.post(URL, json=model)).status_code == status


# Kinds


async def test_models_are_listed_by_kind() -> None:
    async with served_engine() as (_, client):
        made = await client.post(URL, json={**NEW, "type": "ollama", "kind": "embedding", "embedding_dim": 768})
        assert (made.json()["kind"], made.json()["embedding_dim"]) == ("embedding", 768)
        for query, names in (
            ("", ["demo", "m"]),
            ("?kind=chat", ["demo"]),
            ("?kind=embedding", ["m"]),
            ("?kind=", ["demo", "m"]),
        ):
            assert [row["name"] for row in (await client.get(URL + query)).json()] == names
        answer = await client.get(f"{URL}?kind=image")
        assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, "$.kind")


async def test_an_embedding_model_is_neither_an_agents_nor_the_default_nor_a_fallback() -> None:
    async with served_engine() as (_, client):
        refused = await client.post(URL, json={**NEW, "kind": "embedding"})
        assert (refused.status_code, check_refusal(refused)["details"][0]["path"]) == (400, "$.kind")
        await client.post(URL, json={**NEW, "type": "ollama", "kind": "embedding"})
        for method, path, body, where in (
            ("POST", "/api/v1/agents", {"name": "a", "model": "m"}, "$.model"),
            ("PATCH", "/api/v1/agents/demo", {"model": "m"}, "$.model"),
            ("PATCH", f"{URL}/m", {"is_default": True}, "$.is_default"),
            (
                "POST",
                URL,
                {**NEW, "name": "n", "type": "ollama", "kind": "embedding", "is_default": True},
                "$.is_default",
            ),
            ("PATCH", f"{URL}/demo", {"fallback": ["m"]}, "$.fallback[0]"),
        ):
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, where)
        assert (await client.get(f"{URL}/m")).json()["is_default"] is False


async def test_a_model_that_an_agent_waits_for_makes_no_embeddings() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "a", "model": "m"})
        refused = await client.post(URL, json={**NEW, "type": "ollama", "kind": "embedding"})
        assert (refused.status_code, check_refusal(refused)["details"][0]["path"]) == (409, "$.kind")
        assert "Agent 'a' is to chat with 'm'" in refused.json()["message"]
        assert (await client.post(URL, json=NEW)).status_code == 201


async def test_the_first_model_that_chats_is_the_default() -> None:
    async with served_engine(settings={"BYTEBREW_DISABLED_PLUGINS": "demo"}) as (_, client):
        for name, kind in (("e", "embedding"), ("one", "chat"), ("two", "chat")):
            new = {"name": name, "type": "ollama", "model_name": "x", "kind": kind}
            made = (await client.post(URL, json=new)).json()
            assert made["is_default"] is (name == "one")
        await client.delete(f"{URL}/one")
        assert {row["name"]: row["is_default"] for row in (await client.get(URL)).json()} == {"e": False, "two": True}


# Fallback


@pytest.mark.parametrize(
    ("fallback", "path", "words"),
    [
        (["demo", "later"], "$.fallback[1]", "'later' does not exist"),
        (["m"], "$.fallback[0]", "'m' is the model itself"),
        (["Demo"], "$.fallback[0]", ""),
        (["demo"] * 11, "$.fallback", ""),
        ("demo", "$.fallback", ""),
    ],
)
async def test_a_fallback_is_another_model_that_is_there(fallback: object, path: str, words: str) -> None:
    async with served_engine() as (_, client):
        await client.post(URL, json=NEW)
        answer = await client.patch(f"{URL}/m", json={"fallback": fallback})
        assert answer.status_code == 400
        said = check_refusal(answer)
        assert said["details"][0]["path"] == path
        assert words in said["message"]
        assert (await client.get(f"{URL}/m")).json()["fallback"] == []


async def test_a_model_that_others_fall_back_on_is_not_deleted_and_they_are_listed() -> None:
    async with served_engine() as (_, client):
        for name in ("spare", "a", "b"):
            made = {**NEW, "name": name, "fallback": [] if name == "spare" else ["demo", "spare"]}
            assert (await client.post(URL, json=made)).json()["fallback"] == made["fallback"]
        answer = await client.delete(f"{URL}/spare")
        assert answer.status_code == 409
        assert check_refusal(answer)["details"] == [
            {"path": "$.models", "message": "a"},
            {"path": "$.models", "message": "b"},
        ]
        for name in ("a", "b"):
            assert (await client.patch(f"{URL}/{name}", json={"fallback": []})).json()["fallback"] == []
        assert (await client.delete(f"{URL}/spare")).status_code == 204


async def test_a_turn_is_answered_by_the_fallback_and_not_by_the_fallbacks_own() -> None:
    down = ScriptedProvider([ProviderError("down", code="model_unavailable")])
    async with served_engine(providing(down)) as (_, client):
        for name, type_, fallback in (("far", "demo", []), ("near", "scripted", ["far"]), ("m", "scripted", ["near"])):
            await client.post(URL, json={"name": name, "type": type_, "model_name": name, "fallback": fallback})
        await client.patch("/api/v1/agents/demo", json={"model": "m"})
        assert (await chat(client, "demo", "hi"))[-1].event == "error"
        assert [request.model_name for request in down.requests] == ["m", "near"]
        await client.patch(f"{URL}/m", json={"fallback": ["far"]})
        assert (await chat(client, "demo", "hi"))[-1].event == "done"
        rows = (await client.get("/api/v1/usage?group_by=model")).json()["data"]
    assert [row["key"] for row in rows] == ["far"]


# Prices


async def test_prices_are_set_and_taken_back() -> None:
    async with served_engine() as (_, client):
        made = (await client.post(URL, json={**NEW, "pricing_input": 0.25, "pricing_output": 0})).json()
        assert (made["pricing_input"], made["pricing_output"]) == (0.25, 0)
        gone = (await client.patch(f"{URL}/m", json={"pricing_input": None, "pricing_output": None})).json()
        assert (gone["pricing_input"], gone["pricing_output"]) == (None, None)
        for bad in (-0.01, 1_000_001, "1"):
            answer = await client.patch(f"{URL}/m", json={"pricing_input": bad})
            assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, "$.pricing_input")


@pytest.mark.parametrize("how", ["PUT", "PATCH", "import"])
async def test_a_stored_key_does_not_follow_a_model_to_another_vendor(how: str) -> None:
    async with served_engine() as (_, client):
        theirs = {"name": "m", "type": "anthropic", "model_name": "x", "api_key": "sk-ant-one"}
        assert (await client.post(URL, json=theirs)).status_code == 201
        if how == "import":
            answer = await client.post("/api/v1/config/import", json={"models": {"m": {"type": "ollama"}}})
        else:
            answer = await client.request(how, f"{URL}/m", json={"type": "ollama"})
        assert answer.status_code == 400
        assert answer.json()["details"][0]["path"].endswith(".api_key")
        assert (await client.get(f"{URL}/m")).json()["type"] == "anthropic"
        assert (await client.put(f"{URL}/m", json={"type": "ollama", "api_key": "another"})).status_code == 200


@pytest.mark.parametrize("address", ["http://me:secret@a.test/v1", "http://me@a.test", "http://a.test\\@b.test/"])
async def test_a_base_url_names_no_user_for_everybody_is_shown_it(address: str) -> None:
    async with served_engine() as (_, client):
        answer = await client.post(URL, json=NEW | {"base_url": address})
        assert answer.status_code == 400
        assert answer.json()["details"][0]["path"] == "$.base_url"
        assert "without a user and password" in answer.json()["message"]
        assert "secret" not in answer.text
