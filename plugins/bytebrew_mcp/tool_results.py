"""Results of `tools/call` as text and images for a model."""

from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bytebrew import Attachment, Result, ToolError

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Image types that vision models accept; other data is described in text."""
MAX_BLOCKS = 1000
MAX_IMAGE_CHARACTERS = 8 * 1024 * 1024

Part = str | Attachment


def result_of(answer: Mapping[str, Any]) -> Result:
    """The text of all content blocks, joined by line breaks, and the images; ToolError for `isError`."""
    content = answer.get("content")
    blocks = content if isinstance(content, list) else []
    parts = [part for block in blocks[:MAX_BLOCKS] for part in _parts(block)]
    if len(blocks) > MAX_BLOCKS:
        parts.append(f"[{len(blocks) - MAX_BLOCKS} further blocks, which are left out]")
    texts = [part for part in parts if isinstance(part, str)]
    attachments = tuple(part for part in parts if isinstance(part, Attachment))
    text = "\n".join(texts)
    structured = answer.get("structuredContent")
    if structured is not None and not any(texts):
        try:
            text = msgspec.json.encode(structured).decode()
        except RecursionError as error:
            raise ToolError("The tool's result is nested too deeply") from error
    if answer.get("isError") is True:
        raise ToolError(text or "The tool failed without a word")
    return Result(text=text or (f"[{len(attachments)} images]" if attachments else ""), attachments=attachments)


def _parts(block: Any) -> Iterator[Part]:
    if not isinstance(block, dict):
        return
    kind = block.get("type")
    if kind == "text":
        yield _string(block, "text")
    elif kind in ("image", "audio"):
        yield _data(kind, _string(block, "data"), _string(block, "mimeType"))
    elif kind == "resource_link":
        title = _string(block, "title") or _string(block, "name")
        more = "".join(f", {field}" for field in (_string(block, "mimeType"), _string(block, "description")) if field)
        yield f"[resource {title}: {_string(block, 'uri')}{more}]"
    elif kind == "resource" and isinstance(resource := block.get("resource"), dict):
        name = f"resource {_string(resource, 'uri')}"
        if isinstance(resource.get("text"), str):
            yield f"[{name}]\n{resource['text']}"
        else:
            yield _data(name, _string(resource, "blob"), _string(resource, "mimeType"))
    else:
        yield f"[{str(kind)[:80]}, which cannot be shown]"


def _data(name: str, data: str, media_type: str) -> Part:
    try:
        size = len(b64decode(data, validate=True))
    except ValueError:
        return f"[{name}, {media_type}, which is not in base64]"
    if media_type in IMAGES and 0 < len(data) <= MAX_IMAGE_CHARACTERS:
        return Attachment(media_type=media_type, data=data)
    return f"[{name}, {media_type}, {size} bytes, which cannot be shown]"


def _string(block: Mapping[str, Any], name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""
