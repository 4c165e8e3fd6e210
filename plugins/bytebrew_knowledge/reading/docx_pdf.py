"""Readers of DOCX and PDF."""

import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.parsers import expat

from .blocks import Block, Outline, Unreadable, row_of

MOST_XML = 128 * 1024 * 1024
"""Limit in bytes of an unpacked DOCX."""


def docx(path: Path) -> Iterator[Block]:
    """Paragraphs and table rows of the main part of a WordprocessingML document (ECMA-376 part 1)."""
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.getinfo("word/document.xml")
            if part.file_size > MOST_XML:
                raise Unreadable(f"It unpacks to more than {MOST_XML // 1024**2} MiB")
            with archive.open(part) as source:
                document = _Document()
                while piece := source.read(65536):
                    document.parser.Parse(piece, False)
                    yield from document.taken()
                document.parser.Parse(b"", True)
                yield from document.taken()
    except KeyError as error:
        raise Unreadable("It is a ZIP file without a Word document in it") from error
    except expat.ExpatError as error:
        raise Unreadable(f"Its XML is broken: {error}") from error
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise Unreadable(f"It is not a Word document: {error}") from error
    except ValueError as error:
        raise Unreadable(f"It is not a Word document: {error}") from error


class _Document:
    """Streaming XML parser, which builds no tree and rejects entity definitions."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self._blocks: list[Block] = []
        self._outline = Outline()
        self._text: list[str] = []
        self._cells: list[str] = []
        self._rows = 0
        self._listens = False
        self._level = 0

    def taken(self) -> list[Block]:
        """Returns the blocks that were read since the last call."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def _refuse(self, *declaration: object) -> None:
        raise Unreadable("Its XML declares a document type, which a Word document never does")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        match name.rpartition(" ")[2]:
            case "t":
                self._listens = True
            case "tab" | "br" | "cr":
                self._text.append(" ")
            case "tr":
                self._rows += 1
            case "tc" if self._rows == 1:
                self._cells.append("")
            case "pStyle":
                style = next((value for key, value in attributes.items() if key.rpartition(" ")[2] == "val"), "")
                word, _, number = style.lower().replace(" ", "").partition("heading")
                if not word and number.isdecimal() and len(number) == 1:
                    self._level = int(number)
                elif style.lower() == "title":
                    self._level = 1
            case "outlineLvl":
                value = next((value for key, value in attributes.items() if key.rpartition(" ")[2] == "val"), "")
                if value.isdecimal() and len(value) == 1 and int(value) < 9:
                    self._level = int(value) + 1

    def _end(self, name: str) -> None:
        match name.rpartition(" ")[2]:
            case "t":
                self._listens = False
            case "p":
                text = " ".join("".join(self._text).split())
                self._text.clear()
                if self._rows and self._cells:
                    self._cells[-1] = f"{self._cells[-1]} {text}".strip()
                elif self._level:
                    self._outline.enter(self._level, text)
                else:
                    self._blocks.append(Block(self._outline.headings, text))
                self._level = 0
            case "tr":
                self._rows -= 1
                if not self._rows:
                    self._blocks.append(Block(self._outline.headings, row_of(self._cells), row=True))
                    self._cells = []

    def _data(self, data: str) -> None:
        if self._listens:
            self._text.append(data)


def pdf(path: Path) -> Iterator[Block]:
    """Paragraphs, with page numbers as headings."""
    pypdf = library()
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("It is encrypted")
        for number, page in enumerate(reader.pages, 1):
            for paragraph in page.extract_text().split("\n\n"):
                yield Block((f"page {number}",), paragraph.strip())
    except (Unreadable, MemoryError):
        raise
    except Exception as error:
        raise Unreadable(f"It is not a PDF that can be read: {error}") from error


def library() -> Any:
    """The PDF library, an optional dependency."""
    try:
        return import_module("pypdf")
    except ModuleNotFoundError as error:
        raise Unreadable("PDF files need the extra: pip install 'bytebrew[knowledge]'") from error
