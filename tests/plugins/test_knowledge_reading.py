"""How text is cut into chunks, and what becomes of files that mean harm: the engine refuses or bounds them unharmed."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import bytebrew_knowledge
import httpx
import pytest
from bytebrew_knowledge.reader import Reader
from bytebrew_knowledge.reading.blocks import Block, Unreadable
from bytebrew_knowledge.reading.chunks import OVERLAP, SIZE, split
from bytebrew_knowledge.reading.html import html
from bytebrew_knowledge.reading.text_formats import markdown, table, tree
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.testing import served_engine
from tests.documents import BASES, assembled, create, docx, found, paragraph, pdf, put, settled, stored_blobs, upload
from tests.tables import check_refusal

MIB = 1024 * 1024
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "then", "sleeps.", ""]


def prose(count: int) -> str:
    """So many numbered sentences."""
    return " ".join(f"Sentence {n} is about the fox." for n in range(count))


def test_a_heading_begins_a_chunk_and_paragraphs_below_it_share_one() -> None:
    blocks = [Block(("A",), "one"), Block(("A",), "two"), Block(("A", "B"), "three"), Block((), "four")]
    assert list(split(blocks)) == [("A", "one\ntwo"), ("A > B", "three"), ("", "four")]


def test_long_prose_is_cut_behind_sentences_and_overlaps() -> None:
    text = prose(300)
    found = [chunk for _, chunk in split([Block((), text)])]
    assert len(found) > 4
    assert all(len(chunk) <= SIZE for chunk in found)
    assert all(chunk.startswith("Sentence") and chunk.endswith("fox.") for chunk in found)
    for before, after in pairwise(found):
        first = after.split(".")[0]
        assert first in before
        assert 0 < before[before.index(first) :].count("Sentence") * len(first) <= 2 * OVERLAP
    assert all(any(f"Sentence {n} " in chunk for chunk in found) for n in range(300))


def test_rows_stay_whole_and_do_not_overlap() -> None:
    rows = [Block(("T",), f"name: thing {n}\nprice: {n}", row=True) for n in range(200)]
    found = [chunk for _, chunk in split(rows)]
    assert "\n".join(found) == "\n".join(row.text for row in rows)
    assert all(chunk.startswith("name: ") for chunk in found)


@given(
    st.lists(
        st.builds(
            Block,
            st.lists(st.sampled_from(["A", "B", "C"]), max_size=3).map(tuple),
            st.text(max_size=50) | st.integers(1, 5000).map(lambda n: "x" * n) | st.integers(1, 300).map(prose),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_no_word_is_lost_and_no_chunk_too_large(blocks: list[Block]) -> None:
    found = list(split(blocks))
    assert all(0 < len(text) <= SIZE for _, text in found)
    kept = {word for _, text in found for word in text.split()}
    texts = [unicodedata.normalize("NFC", block.text.replace("\0", " ")) for block in blocks]
    assert {word for text in texts for word in text.split() if len(word) < 300} <= kept


def test_markdown_keeps_code_together_and_knows_both_kinds_of_heading(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Top\n===\n\nSub\n---\ntext\n\n```\n# no heading\n\nx\n```\n\n| a |\n|---|\n| 1 |\n")
    assert [block for block in markdown(tmp_path / "a.md") if block.text] == [
        Block(("Top", "Sub"), "text"),
        Block(("Top", "Sub"), "```\n# no heading\n\nx\n```"),
        Block(("Top", "Sub"), "| a |", row=True),
        Block(("Top", "Sub"), "| 1 |", row=True),
    ]


def test_json_that_is_broken_or_bottomless_is_unreadable(tmp_path: Path) -> None:
    for content in ("{", "[" * 200_000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(Unreadable):
            list(tree(tmp_path / "a.json"))


def test_a_cell_of_several_lines_and_quotes_behind_the_first_pages_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [f"plain {n},nothing of note" for n in range(600)]
    lines = ["name,note", *rows, 'last,"first line\nsecond ""line"", and more"']
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert list(table(tmp_path / "a.csv"))[-1].text == 'name: last\nnote: first line\nsecond "line", and more'


@pytest.mark.parametrize(
    "charset", ["idna", "undefined", "rot13", "utf-8", "no-such", "utf-16", "utf-16le", "UTF-16BE", "utf-32", "cp037"]
)
def test_a_page_whose_charset_is_none_is_read(charset: str, tmp_path: Path) -> None:
    for size in ("Größe", "Größen"):  # of an odd and of an even number of bytes
        (tmp_path / "a.html").write_bytes(f'<meta charset="{charset}"><p>{size}'.encode())
        assert size in [block.text for block in html(tmp_path / "a.html")]


def test_what_a_picture_or_a_template_holds_is_no_part_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<title>Zoo</title><h1>Birds</h1><p>One <svg><title>Icon</title><path/></svg>line."
        "<template><h1>Fish</h1><table><tr><td>x</table></template><table><tr><td>a <svg/><td>b</table>"
    )
    headings = ("Zoo", "Birds")
    assert [block for block in html(tmp_path / "a.html") if block.text] == [
        Block(headings, "One line."),
        Block(headings, "a | b", row=True),
    ]


async def test_a_signal_to_the_whole_service_fails_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[" + b'{"a":"b"},' * 200_000 + b"{}]")
    reader = Reader(30, 1024 * MIB)
    try:
        reading = asyncio.create_task(reader.read(tmp_path / "a.json", "json", tmp_path / "spool"))
        await asyncio.sleep(0.5)
        assert not reading.done()
        assert reader._process is not None
        os.killpg(reader._process.pid, signal.SIGTERM)
        assert await reading > 1000
    finally:
        await reader.close()


def test_what_a_reader_says_fits_into_its_answer(tmp_path: Path) -> None:
    source = """
import sys; sys.path.insert(0, sys.argv[1])
from reading import process
def broken(path): raise process.Unreadable("\U0001f600" * 900)
process.READERS = {"txt": broken}
process.serve()
"""
    folder = Path(bytebrew_knowledge.__file__).parent
    job = {"source": "a", "type": "txt", "target": str(tmp_path / "spool"), "seconds": 5, "memory": 1 << 30}
    command = [sys.executable, "-c", source, str(folder)]
    done = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True, check=True, timeout=20)
    assert json.loads(done.stdout) == {"error": "\U0001f600" * 500}


def bomb() -> bytes:
    """A Word document of a few hundred kilobytes that unpacks to 300 MiB."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/document.xml", "w", force_zip64=True) as part,
    ):
        for _ in range(300):
            part.write(b" " * MIB)
    return target.getvalue()


def understated() -> bytes:
    """The same, but it says that it is small."""
    raw = bytearray(bomb())
    at = raw.rfind(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    return bytes(raw)


def laughs() -> bytes:
    """A Word document whose entities would fill any memory."""
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    return docx(paragraph("&a11;"), before=f"<!DOCTYPE x [{entities}]>")


def wide() -> bytes:
    """A Word document of 100 MiB of XML with next to no text in it."""
    return docx("<w:p></w:p>" * 9_000_000)


def looping() -> bytes:
    """A PDF whose page shows a form that shows itself, twice."""
    form = b"/Im Do /Im Do"
    resources = b"/Resources << /XObject << /Im 5 0 R >> >>"
    return assembled(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R " + resources + b" >>",
            b"<< /Length 6 >>\nstream\n/Im Do\nendstream",
            b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] "
            + resources
            + b" /Length %d >>\nstream\n%s\nendstream" % (len(form), form),
        ]
    )


def circular() -> bytes:
    """A PDF whose tree of pages has itself as a child."""
    return assembled([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 9 /Kids [2 0 R 2 0 R] >>"])


def heavy() -> bytes:
    """A PDF whose one page takes minutes to read."""
    stream = b"BT /F1 9 Tf " + b"1 0 0 1 3 3 Tm (a) Tj " * 2_000_000 + b" ET"
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    return assembled(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /Font << /F1 "
            + font
            + b" >> >> >>",
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        ]
    )


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a zip bomb": ("a.docx", bomb),
    "a zip bomb that understates itself": ("a.docx", understated),
    "entities without end": ("a.docx", laughs),
    "much XML with no text": ("a.docx", wide),
    "a form that shows itself": ("a.pdf", looping),
    "pages in a circle": ("a.pdf", circular),
    "a page that takes minutes": ("a.pdf", heavy),
    "half a PDF": ("a.pdf", lambda: pdf("one", "two")[:300]),
    "a PDF of scans": ("a.pdf", lambda: pdf("")),
    "half a Word document": ("a.docx", lambda: docx(paragraph("a" * 9999))[:200]),
    "a ZIP file without a document": ("a.docx", lambda: docx("").replace(b"word/document", b"word/dokument")),
    "blanks": ("a.txt", lambda: b" \n" * 1000),
    "JSON that is large in memory": ("a.json", lambda: b"[" + b'{"a":[[]]},' * 2_000_000 + b"{}]"),
    "JSON without a bottom": ("a.json", lambda: b"[" * MIB),
}


async def spent(client: httpx.AsyncClient, until: asyncio.Event) -> list[float]:
    """This process's time on a processor during small requests, one after the other, sorted.

    The engine and the client are in it, readers of files are not; other processes do not change it.
    """
    taken = []
    while not until.is_set():
        began = time.process_time()
        assert (await client.get("/api/v1/models")).status_code == 200
        taken.append(time.process_time() - began)
        await asyncio.sleep(0.01)
    return sorted(taken)


@asynccontextmanager
async def unharmed(client: httpx.AsyncClient) -> AsyncIterator[None]:
    """Small requests take about as much of the engine's time during the block as before it."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, stop.set)
    before = await spent(client, stop)
    stop = asyncio.Event()
    watching = asyncio.create_task(spent(client, stop))
    try:
        yield
        await asyncio.sleep(0.05)
    finally:
        stop.set()
        during = await watching
    usual, then = before[len(before) // 2], during[len(during) // 2]
    assert then < max(10 * usual, 0.03), f"{usual * 1000:.1f} ms before, {then * 1000:.1f} ms during"


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_file_that_means_harm_is_bounded_and_its_neighbours_are_served(name: str) -> None:
    settings = {"BYTEBREW_KNOWLEDGE_READ_TIMEOUT": "2s", "BYTEBREW_KNOWLEDGE_READ_BYTES": str(256 * MIB)}
    file, make = HOSTILE[name]
    content = await asyncio.to_thread(make)
    async with served_engine(settings=settings) as (engine, client):
        await create(client)
        async with unharmed(client):
            await put(client, file, content)
            await put(client, "good.txt", "Apples are red.")
            files = await settled(client, seconds=40)
        assert files["good.txt"]["status"] == "ready"
        assert files[file]["status"] == "error"
        assert files[file]["status_message"]
        assert files[file]["chunk_count"] == 0
        assert [hit["file_name"] for hit in await found(client, "apples")] == ["good.txt"]
        assert not [path for path in (engine.data_dir / "files").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_50_mib_in_one_line_are_bounded_and_found() -> None:
    line = b"".join(b"word%d " % n for n in range(20)) * (50 * MIB // 130 - 1000)
    content = line[: 50 * MIB - MIB] + b" needle " + line[: MIB // 2]
    async with served_engine() as (_, client):
        await create(client)
        assert (await upload(client, "b.txt", b"x" * (50 * MIB))).status_code == 413
        async with unharmed(client):
            await put(client, "a.txt", content)
            began = time.monotonic()
            while time.monotonic() - began < 60:
                file = (await client.get(f"{BASES}/docs/files/a.txt")).json()
                if file["status"] != "indexing":
                    break
                assert 0 <= file["progress"] < 100
                await asyncio.sleep(0.1)
        assert file["status"] == "ready"
        assert 20_000 < file["chunk_count"] < 50_000
        hits = await found(client, "needle")
        assert 1 <= len(hits) <= 2  # it may lie where two chunks overlap
        assert all(len(hit["text"]) <= SIZE for hit in hits)


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.pdf", b"PK\x03\x04 is no PDF", ""),
        ("a.docx", b"%PDF-1.4", ""),
        ("a.txt", pdf("hidden"), "text/plain"),
        ("a.md", docx(paragraph("hidden")), ""),
        ("a.txt", b"\x7fELF\0\0\0", ""),
        ("a.csv", b"a,b\0c", ""),
        ("a.html", b"<p>", "application/pdf"),
        ("a.pdf", pdf("a"), "text/html"),
        ("a.exe", b"MZ", ""),
        ("a", b"text", "text/plain"),
        ("txt", b"text", "text/plain"),
        ("a.tar.gz", b"text", ""),
    ],
)
async def test_a_file_that_lies_about_its_type_is_refused(name: str, content: bytes, media_type: str) -> None:
    async with served_engine() as (engine, client):
        await create(client)
        response = await client.post(f"{BASES}/docs/files", files={"file": (name, content, media_type)})
        assert response.status_code == 415
        assert check_refusal(response)["details"][0]["path"] == "$.file"
        assert (await client.get(f"{BASES}/docs/files")).json() == []
        assert list((engine.data_dir / "files").iterdir()) == []


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\me\\notes.txt", "notes.txt"),
        ("/abs/a b.txt", "a b.txt"),
        ("Größe.txt", "Größe.txt"),
        ("..", None),
        ("a/..", None),
        ("a\n.txt", None),
        ("a\x00.txt", None),
        ("a\x85.txt", None),
        ("a\u2028.txt", None),
        ("x" * 300 + ".txt", None),
    ],
)
async def test_a_path_does_not_climb(given_name: str, kept: str | None) -> None:
    async with served_engine() as (engine, client):
        await create(client)
        head = f'Content-Disposition: form-data; name="file"; filename="{given_name.replace(chr(92), chr(92) * 2)}"'
        body = f"--x\r\n{head}\r\n\r\nApples\r\n--x--\r\n".encode()
        response = await send(client, body)
        if kept is None:
            assert response.status_code in (400, 415)
            check_refusal(response)
        else:
            assert (response.status_code, response.json()["file_name"]) == (201, kept)
            assert (await client.get(f"{BASES}/docs/files/{response.json()['id']}")).json()["file_name"] == kept
        inside = {name for name in stored_blobs(engine.data_dir) if not name.startswith(".")}
        assert len(inside) == (kept is not None)  # besides what its reader writes while it reads
        assert not any("txt" in name for name in inside)


async def send(client: httpx.AsyncClient, body: Any, kind: str = "multipart/form-data; boundary=x") -> httpx.Response:
    return await client.post(f"{BASES}/docs/files", content=body, headers={"content-type": kind})


METADATA = b'\r\n--x\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{}'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b"", 400, ""),
        (b"--x--\r\n", 400, "$.file"),
        (b"--x\r\n" + FILE + b"Apples", 400, ""),
        (b"--x\r\n" + FILE + b"\r\n--x--\r\n", 400, "$.file"),
        (b"--x\r\n\r\nApples\r\n--x--\r\n", 400, ""),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nA\r\n--x--\r\n", 400, ""),
        (b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nA\r\n--x--\r\n', 400, "$.other"),
        (b"--x\r\n" + FILE + b"A\r\n--x\r\n" + FILE + b"B\r\n--x--\r\n", 400, "$.file"),
        (b'--x\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n[]\r\n--x--\r\n', 400, "$.metadata"),
        (b"--x\r\n" + FILE + b"A" + METADATA + METADATA + b"\r\n--x--\r\n", 400, "$.metadata"),
        (b"--x\r\nX: " + b"y" * 99_999 + b"\r\n\r\n\r\n--x--\r\n", 400, ""),
        (b"no form", 400, ""),
    ],
)
async def test_a_form_that_is_broken_is_refused_and_leaves_nothing(body: bytes, status: int, path: str) -> None:
    async with served_engine() as (engine, client):
        await create(client)
        response = await send(client, body)
        assert response.status_code == status
        assert not path or check_refusal(response)["details"][0]["path"] == path
        assert list((engine.data_dir / "files").iterdir()) == []
        for kind in ("application/json", "multipart/form-data", "text/plain", "multipart/mixed; boundary=x"):
            assert (await send(client, body, kind)).status_code == 415


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_form_may_come_in_any_pieces(size: int) -> None:
    content = b"Apples\r\n--y are\n--x \r\r\n- red.\r\n-" * 10
    form = b"preamble\r\n--x\r\n" + FILE + content + b"\r\n--x\r\n"
    form += b'Content-Disposition: form-data; name="metadata"\r\n\r\n{"a": "b"}\r\n--x--\r\nepilogue'

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(form), size):
            yield form[at : at + size]

    async with served_engine() as (engine, client):
        await create(client)
        made = (await send(client, pieces(), 'multipart/form-data; boundary="x"')).json()
        assert made["metadata"] == {"a": "b"}
        assert [*stored_blobs(engine.data_dir).values()] == [content]
