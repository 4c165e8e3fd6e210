"""The frame of the page: every address has its page, and nothing is loaded from elsewhere or refused."""

from typing import Any

import pytest
from bytebrew_page.serving import PAGES

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


@pytest.mark.parametrize("name", ["", *PAGES])
def test_every_address_shows_its_page(page: Any, name: str) -> None:
    page.goto(f"/{name}")
    page.locator("h1").wait_for(state="attached")
    assert page.title().endswith("· ByteBrew")
