"""The commands of the page about the widget work as they stand, and lead to a chat."""

import json
from pathlib import Path

import httpx

from tests.docs.shop import commands, opened

ORIGIN = {"origin": "https://shop.example"}


def test_a_visitor_of_the_site_chats_with_the_token_of_its_page(tmp_path: Path) -> None:
    make, allow = commands("how-to/widget.md", "Set it up")
    with opened(tmp_path) as shop:
        token = json.loads(shop.run(make))["token"]
        assert json.loads(shop.run(allow))["value"] == [ORIGIN["origin"]]
        with httpx.Client(base_url=shop.url, headers=ORIGIN, timeout=30) as page:
            bearer = {"authorization": f"Bearer {token}"}
            visit = page.post("/api/v1/auth/visitors", headers=bearer, json={}).raise_for_status()
            assert visit.headers["access-control-allow-origin"] == ORIGIN["origin"]
            visitor = {"authorization": f"Bearer {visit.json()['access_token']}"}
            said = {"message": "Hello", "stream": False}
            assert (
                page.post("/api/v1/schemas/demo/chat", headers=visitor, json=said).raise_for_status().json()["message"]
            )
            assert page.get("/widget.js").status_code == 200
