"""Models over REST."""

from bytebrew.testing import served_engine

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
