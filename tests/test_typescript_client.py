"""What holds for the TypeScript client without Node.js; tests/peers/test_typescript_client.py runs it."""

import json
import re

from bytebrew import __version__
from bytebrew.web.api_document.openapi import EVENTS
from scripts import client_types

FOLDER = client_types.FILE.parents[1]


def test_its_types_are_those_of_the_api() -> None:
    assert client_types.FILE.read_text() == client_types.text(), "run make docs"


def test_every_event_of_the_engine_has_a_type_with_all_its_fields() -> None:
    text = client_types.FILE.read_text()
    for kind in EVENTS:
        assert f'| Frame<"{kind.name}", {kind.__name__}>' in text
        assert f'  "{kind.name}",\n' in text
        [declared] = re.findall(rf"^export interface {kind.__name__} {{\n(.*?)^}}", text, re.DOTALL | re.MULTILINE)
        assert set(re.findall(r"^  (\w+)\??:", declared, re.MULTILINE)) == set(kind.__struct_fields__)


def test_it_has_no_dependency_and_the_version_of_the_engine() -> None:
    package = json.loads((FOLDER / "package.json").read_text())
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    assert "dependencies" not in package
    assert [*package["devDependencies"]] == ["typescript"]
    assert package["version"] == lock["version"] == __version__
    compiler = package["devDependencies"]["typescript"]
    assert f" typescript@{compiler}\n" in (FOLDER.parents[1] / "tests/peers/setup.sh").read_text()


def test_its_modules_import_each_other_alone_so_that_browsers_have_all_that_they_need() -> None:
    for path in (FOLDER / "src").glob("*.ts"):
        text = path.read_text()
        assert not [name for name in re.findall(r'from "([^"]+)"', text) if not re.fullmatch(r"\./\w+\.js", name)]
        assert not re.search(r"\b(process|Buffer|require)\b\W", text)
