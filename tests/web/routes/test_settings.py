"""Settings over REST."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.contract.configuration.runtime_option import Option, Options
from bytebrew.store.configuration import changed_options
from bytebrew.testing import served_engine
from bytebrew.web.http_state import http_state
from tests.tables import all_but, check_refusal, token_with

URL = "/api/v1/settings"
ORDER = [("a", ""), ("b", "gone"), ("c", "a")]


async def test_every_setting_is_listed_with_its_default_its_help_and_what_was_changed() -> None:
    async with served_engine() as (running, client):
        before = (await client.get(URL)).json()
        for row in before:
            assert set(row) == {"key", "value", "default", "help", "schema", "updated_at"}
            assert (row["value"], row["updated_at"]) == (row["default"], None)
        own_keys = {row["key"]: row for row in before if row["key"].startswith("byok.")}
        assert own_keys.pop("byok.origins")["default"] == []
        assert own_keys.keys() == {"byok.base_url", *(f"byok.{type_}" for type_ in running.providers)}
        for row in own_keys.values():
            assert row["default"] is False
            assert row["help"].startswith("whether callers ")
        put = (await client.put(f"{URL}/byok.demo", json={"value": True})).json()
        assert (put["value"], put["default"]) == (True, False)
        assert put["updated_at"].endswith("Z")
        after = (await client.get(URL)).json()
        assert after == [put if row["key"] == "byok.demo" else row for row in before]
        assert (await client.get(f"{URL}/byok.demo")).json() == put


async def test_settings_are_listed_where_their_plugins_place_them() -> None:
    async with served_engine() as (running, client):
        keys = [row["key"] for row in (await client.get(URL)).json()]
    assert keys == [
        *("retention.sessions", "retention.events", "retention.idempotency", "versions.most", "retention.versions"),
        *("byok.base_url", "byok.origins", "chat.body_headers", *(f"byok.{type_}" for type_ in running.providers)),
        *("log.level", "widget.origins", "retention.audit", "retention.callbacks"),
    ]


def test_an_option_before_one_that_is_not_there_is_listed_last() -> None:
    options = [Option(key=key, type=int, default=0, help="", before=before) for key, before in ORDER]
    assert [option.key for option in Options(options)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("value", "stored"), [(True, True), (False, False), ("true", True), ("false", False), ("1", True), ("0", False)]
)
async def test_a_value_comes_typed_or_as_the_text_of_one(value: object, stored: bool) -> None:
    async with served_engine() as (_, client):
        answer = await client.put(f"{URL}/byok.demo", json={"value": value, "description": "as some clients send"})
        assert (answer.status_code, answer.json()["value"]) == (200, stored)
        assert (await client.get(f"{URL}/byok.demo")).json()["value"] is stored


@pytest.mark.parametrize("value", ["yes please", 2, None, [True], {"on": True}])
async def test_a_value_that_does_not_fit_is_refused_and_changes_nothing(value: object) -> None:
    async with served_engine() as (_, client):
        answer = await client.put(f"{URL}/byok.demo", json={"value": value})
        assert answer.status_code == 400
        said = check_refusal(answer)
        assert said["message"].startswith("byok.demo: ")
        assert said["details"][0]["path"] == "$.value"
        assert (await client.get(f"{URL}/byok.demo")).json()["updated_at"] is None


async def test_a_body_without_a_value_or_with_more_is_refused() -> None:
    async with served_engine() as (_, client):
        for body, path in (({}, "$.value"), ({"value": True, "scope": "x"}, "$.scope")):
            answer = await client.put(f"{URL}/byok.demo", json=body)
            assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, path)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("key", ["byok.oracle", "byok", "colour", "a" * 5000])
async def test_an_unknown_key_is_a_404(method: str, key: str, shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.request(method, f"{URL}/{key}", json={"value": True} if method == "PUT" else None)
    assert answer.status_code == 404
    assert "GET /api/v1/settings lists them" in check_refusal(answer)["message"]


@pytest.mark.parametrize("value", [20, "20", None, 0.5, ["a", {"b": None}], {"percent": 20, "who": "Zoë"}])
async def test_keys_of_the_operators_own_hold_any_value(value: Any) -> None:
    url = f"{URL}/custom.max_discount"
    async with served_engine() as (_, client):
        assert (await client.get(url)).json()["value"] is None
        assert (await client.put(url, json={"value": value})).json()["value"] == value
        [row] = [row for row in (await client.get(URL)).json() if row["key"] == "custom.max_discount"]
        assert row["value"] == value
        assert (await client.get(url)).json() == row
        assert (await client.delete(url)).status_code == 204
        assert "custom.max_discount" not in (await client.get(URL)).text


async def test_a_value_has_its_length() -> None:
    async with served_engine() as (_, client):
        for length, status in ((65_534, 200), (65_535, 400)):  # with its quotation marks
            answer = await client.put(f"{URL}/custom.long", json={"value": "x" * length})
            assert answer.status_code == status


async def test_delete_takes_a_setting_back_to_its_default_however_often() -> None:
    async with served_engine() as (_, client):
        await client.put(f"{URL}/byok.demo", json={"value": True})
        for _ in range(2):
            answer = await client.delete(f"{URL}/byok.demo")
            assert (answer.status_code, answer.content) == (204, b"")
            found = (await client.get(f"{URL}/byok.demo")).json()
            assert (found["value"], found["updated_at"]) == (False, None)


@pytest.fixture
def root_level() -> Iterator[None]:
    """Puts the level of all logging back."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


@pytest.mark.usefixtures("root_level")
async def test_the_log_level_changes_at_once_and_is_kept(tmp_path: Path) -> None:
    root, url = logging.getLogger(), f"{URL}/log.level"
    async with served_engine(data=tmp_path) as (_, client):
        assert (await client.get(url)).json()["value"] == "info"
        await client.put(url, json={"value": "error"})
        assert root.level == logging.ERROR
        said = check_refusal(await client.put(url, json={"value": "loud"}))
        assert said["details"][0]["path"] == "$.value"
        assert root.level == logging.ERROR
    root.setLevel(logging.INFO)  # a new process has that of BYTEBREW_LOG_LEVEL
    async with served_engine(data=tmp_path) as (_, client):
        assert root.level == logging.ERROR
        await client.delete(url)
        assert root.level == logging.INFO
        file = b"settings: {log.level: debug}"
        taken = await client.post("/api/v1/config/import", content=file)
        assert (taken.status_code, root.level) == (200, logging.DEBUG)


async def test_the_widgets_origins_may_call_beside_those_of_the_environment() -> None:
    ours, theirs, url = "https://app.example", "https://shop.example:8443", f"{URL}/widget.origins"

    async def allowed(client: httpx.AsyncClient) -> list[str]:
        found = []
        for origin in (ours, theirs, "https://evil.example"):
            answer = await client.get("/api/v1/health", headers={"Origin": origin})
            if answer.headers.get("access-control-allow-origin") == origin:
                found.append(origin)
        return found

    async with served_engine() as (_, client):
        await client.put(url, json={"value": [theirs]})
        assert await allowed(client) == [theirs]
    async with served_engine(settings={"BYTEBREW_CORS_ORIGINS": ours}) as (_, client):
        assert await allowed(client) == [ours]
        await client.put(url, json={"value": [theirs]})
        assert await allowed(client) == [ours, theirs]
        await client.delete(url)
        assert await allowed(client) == [ours]


@pytest.mark.parametrize("origin", ["*", "null", "shop.example", "https://shop.example/", "https://*.example", ""])
async def test_what_is_no_origin_is_refused(origin: str) -> None:
    async with served_engine() as (_, client):
        said = check_refusal(await client.put(f"{URL}/widget.origins", json={"value": [origin]}))
    assert said["details"][0]["path"] == "$.value"


async def test_a_stored_value_that_no_longer_fits_leaves_the_default(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served_engine(data=tmp_path) as (running, _):
        await running.db.write(changed_options.put, "widget.origins", ["not", "origins"])
    async with served_engine(data=tmp_path) as (running, _):
        assert http_state(running).origins == ()
    assert "the setting widget.origins stays at its default" in caplog.text


async def test_settings_are_an_admins_alone() -> None:
    async with served_engine() as (running, client):
        token = (await token_with(running, *all_but(), name="all but admin")).token
        for method, path in (("GET", ""), ("GET", "/byok.demo"), ("PUT", "/byok.demo"), ("DELETE", "/byok.demo")):
            answer = await client.request(method, URL + path, headers={"authorization": f"Bearer {token}"})
            assert (answer.status_code, check_refusal(answer)["error"]) == (403, "forbidden")
