"""Small files of each type that a knowledge base reads, and how they are sent."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import httpx

from tests.stored import ON_POSTGRESQL, rows

BASES = "/api/v1/knowledge-bases"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def docx(body: str, *, before: str = "", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A Word document of WordprocessingML paragraphs and tables."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        document = f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
        archive.writestr("word/document.xml", f'<?xml version="1.0"?>{before}{document}')
    return target.getvalue()


def paragraph(text: str, style: str = "") -> str:
    """A Word paragraph; its text is cut in two runs, as Word does."""
    marked = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    half = len(text) // 2
    runs = "".join(f'<w:r><w:t xml:space="preserve">{part}</w:t></w:r>' for part in (text[:half], text[half:]))
    return f"<w:p>{marked}{runs}</w:p>"


def table(*rows: Iterable[str]) -> str:
    """A Word table."""
    lines = ("".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{line}</w:tr>' for line in lines)}</w:tbl>"


def pdf(*pages: str, more: Iterable[bytes] = ()) -> bytes:
    """A PDF with a line of text on each page; `more` are further objects."""
    count = len(pages)
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(count))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Count {count} /Kids [{kids}] >>".encode()]
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    for n, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode("latin-1")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {4 + 2 * n} 0 R "
            f"/Resources << /Font << /F1 {font} >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    return assembled([*objects, *more])


def assembled(objects: Iterable[bytes]) -> bytes:
    """A PDF file of numbered objects, the first being its catalog."""
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    xref = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(offsets) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (size, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % size + xref + trailer


async def create(client: httpx.AsyncClient, name: str = "docs", **fields: Any) -> dict[str, Any]:
    """A new base."""
    response = await client.post(BASES, json={"name": name, **fields})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def upload(client: httpx.AsyncClient, name: str, content: bytes | str, base: str = "docs", **form: str) -> Any:
    """The answer to a file that is sent as a browser would."""
    raw = content.encode() if isinstance(content, str) else content
    return await client.post(f"{BASES}/{base}/files", files={"file": (name, raw)}, data=form, timeout=120)


async def put(client: httpx.AsyncClient, name: str, content: bytes | str, base: str = "docs", **form: str) -> Any:
    """A file that is taken in."""
    response = await upload(client, name, content, base, **form)
    assert response.status_code == 201, response.text
    return response.json()


async def settled(client: httpx.AsyncClient, base: str = "docs", seconds: float = 60) -> dict[str, Any]:
    """The files of a base by name, once nothing is being indexed."""
    with anyio.fail_after(seconds):
        while (await client.get(f"{BASES}/{base}")).json()["status"] == "indexing":
            await anyio.sleep(0.02)
    return {file["file_name"]: file for file in (await client.get(f"{BASES}/{base}/files")).json()}


async def found(client: httpx.AsyncClient, query: str, base: str = "docs", **more: Any) -> Any:
    """The results of a search."""
    response = await client.get(f"{BASES}/{base}/search", params={"q": query, **more})
    assert response.status_code == 200, response.text
    return response.json()["results"]


def stored_blobs(data: Path) -> dict[str, bytes]:
    """The contents of files by their generated names, wherever an engine with this data folder keeps them."""
    stored = {path.name: path.read_bytes() for path in (data / "files").iterdir()}
    if ON_POSTGRESQL:
        for name, part in rows(data, "select name, data from knowledge_blobs order by name, part"):
            stored[name] = stored.get(name, b"") + part
    return stored
