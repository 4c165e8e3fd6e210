"""Writes the tables of docs/reference/settings.md from the code: `make docs` runs it."""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bytebrew.base.settings import rows
from bytebrew.engine import Engine

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"


def page() -> str:
    """The page with the tables as the code has them."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine({"BYTEBREW_DATA_DIR": folder})
    variables = [(row.variable, row.default, row.help) for row in rows(engine.plugins.tables())]
    keys = sorted((option.key, msgspec.json.encode(option.default).decode(), option.help) for option in engine.options)
    return _between(_between(PAGE.read_text(), "variables", variables), "keys", keys)


def _between(text: str, marker: str, lines: Iterable[tuple[str, str, str]]) -> str:
    rows = [f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |" for name, default, meaning in lines]
    table = "\n".join(["| name | default | meaning |", "|---|---|---|", *rows])
    begin, end = f"<!-- {marker}, written by `make docs` -->\n", f"<!-- /{marker} -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{table}\n{end}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page())
