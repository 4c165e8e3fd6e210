"""Reader of HTML."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from .blocks import Block, Outline, decoded, row_of

_SILENT = {"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "select"}
_BREAKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote body br caption dd details div dl dt fieldset figcaption figure footer form "
        "header hr html legend li main nav ol option p pre section summary table tbody tfoot thead ul",
    )
)
_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w-]{1,40})""", re.IGNORECASE)


def html(path: Path) -> Iterator[Block]:
    """Paragraphs and table rows under the page's headings; the title is the outermost."""
    raw = path.read_bytes()
    page = _Page()
    page.feed(_decoded(raw))
    page.close()
    page.flush()
    yield from page.blocks


def _decoded(raw: bytes) -> str:
    declared = _CHARSET.search(raw[:4096])
    if declared:
        charset = declared[1].decode("ascii")
        try:
            if declared[1].decode(charset) == charset:  # excludes UTF-16, whose declaration would not be ASCII
                return raw.decode(charset)
        except (LookupError, UnicodeError):
            pass
    return decoded(raw)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._outline = Outline()
        self._text: list[str] = []
        self._cells: list[str] | None = None
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif self._silent:
            pass
        elif tag == "tr":
            self.flush()
            self._cells = []
        elif tag in ("td", "th"):
            self._end_cell()
        elif tag in _HEADINGS or tag == "title":
            self.flush()
        elif tag in _BREAKS:
            self._break()

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif self._silent:
            pass
        elif tag == "tr":
            self.flush()
        elif tag in ("td", "th"):
            self._end_cell()
        elif tag in _HEADINGS or tag == "title":
            self._outline.enter(_HEADINGS.get(tag, 0), self._taken())
        elif tag in _BREAKS:
            self._break()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._text.append(data)

    def flush(self) -> None:
        """Ends the paragraph or the row."""
        if self._cells is not None:
            self._end_cell()
            cells, self._cells = self._cells, None
            self.blocks.append(Block(self._outline.headings, row_of(cells), row=True))
        self.blocks.append(Block(self._outline.headings, self._taken()))

    def _break(self) -> None:
        if self._cells is None:
            self.flush()
        else:
            self._text.append(" ")

    def _end_cell(self) -> None:
        cell = self._taken()
        if self._cells is not None and cell:
            self._cells.append(cell)

    def _taken(self) -> str:
        text = " ".join("".join(self._text).split())
        self._text.clear()
        return text
