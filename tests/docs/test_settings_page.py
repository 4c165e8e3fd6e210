"""docs/reference/settings.md is what `make docs` writes, and has every setting with a description."""

import re

from scripts import settings_page


def test_the_page_is_not_stale() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run make docs"


def test_every_setting_has_a_description() -> None:
    rows = re.findall(r"^\| `[\w.]+` \| (?:`[^|]*`)? ?\| (.*) \|$", settings_page.PAGE.read_text(), re.MULTILINE)
    assert len(rows) > 60
    assert not [row for row in rows if len(row.split()) < 3]
