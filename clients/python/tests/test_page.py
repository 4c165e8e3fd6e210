"""The README's examples work as they stand, but for the address, and print what it says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bytebrew_client
from bytebrew.testing import ADMIN
from tests.docs.shop import opened

PAGE = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An engine whose schema `careful` asks before the time is looked up."""
    with opened(tmp_path_factory.mktemp("page")) as shop:
        tools = ["current_time", "show_structured_output"]
        careful = {"name": "careful", "model": "demo", "tools": tools, "confirm_before": ["current_time"]}
        schema = {"name": "careful", "entry_agent": "careful", "chat_enabled": True}
        shop.client.patch("/api/v1/agents/support", json={"tools": tools}).raise_for_status()
        shop.client.post("/api/v1/agents", json=careful).raise_for_status()
        shop.client.post("/api/v1/schemas", json=schema).raise_for_status()
        yield shop.url


def test_the_examples_of_the_page_work(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"token": ADMIN}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 10
    try:
        for block in blocks:
            exec(compile(block.replace("http://localhost:8443", url), "README.md", "exec"), names)
            printed, place = capsys.readouterr().out, 0
            for line in re.findall(r"^#> (.*)$", block, re.MULTILINE):
                assert line in printed[place:], f"{block}\nprinted:\n{printed}"
                place = printed.index(line, place) + len(line)
    finally:
        names["client"].close()


def test_the_page_names_what_there_is() -> None:
    code = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    for row in re.findall(r"`client\.(\w+)`: ((?:`\w+`,? ?)+)", code):
        part = getattr(bytebrew_client.Client("http://localhost"), row[0])
        assert set(re.findall(r"`(\w+)`", row[1])) == {name for name in dir(part) if not name.startswith("_")}
    for name in re.findall(r"`([A-Z]\w+)`", code):
        assert name in bytebrew_client.__all__ or name in ("Retry", "Path"), name
