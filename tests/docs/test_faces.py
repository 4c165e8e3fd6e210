"""The commands of the page about faces work as they stand."""

import json
import re
from pathlib import Path

from tests.docs import ROOT
from tests.docs.shop import commands, opened

PAGE = (ROOT / "docs" / "reference" / "faces.md").read_text()


def test_first_steps(tmp_path: Path) -> None:
    [talk] = commands("reference/faces.md", "First steps")
    with opened(tmp_path) as shop:
        models, answer = (json.loads(line) for line in shop.run(talk.replace("\ncurl", "\necho; curl")).splitlines())
    assert "support" in [model["id"] for model in models["data"]]
    assert answer["choices"][0]["message"]["content"].startswith("You said: Hello")


def test_the_table_of_faces_has_no_cell_too_few() -> None:
    table = PAGE.partition("\n## What each face has\n")[2].partition("\n## ")[0].strip().splitlines()
    assert {len(re.findall(r"\|", row)) for row in table} == {7}
