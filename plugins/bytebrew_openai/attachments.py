"""Images and files in the messages of OpenAI's clients."""

import binascii
from base64 import b64decode
from contextlib import suppress
from mimetypes import guess_type

from bytebrew import Attachment, Detail, InvalidRequest


def attachment(text: str, path: str, *, name: str = "", usual: str) -> Attachment:
    """An image or a file, from a data URL, a URL of HTTP, or base64 alone.

    `usual` is its media type where neither the URL nor the `name` says one. InvalidRequest with the path for a text
    that is none of these.
    """
    head, comma, data = text.partition(",")
    if text.startswith("data:") and comma:
        media_type, _, encoding = head.removeprefix("data:").partition(";")
        if not encoding.endswith("base64"):
            raise _fault(path, "Expected a data URL in base64: data:image/png;base64,...")
        return Attachment(media_type=media_type.lower() or usual, data=_checked(data, path), name=name)
    if text.startswith(("http://", "https://")):
        guessed = guess_type(name or text.partition("?")[0])[0]
        return Attachment(media_type=guessed or usual, url=text, name=name)
    return Attachment(media_type=guess_type(name)[0] or usual, data=_checked(text, path), name=name)


def _checked(data: str, path: str) -> str:
    with suppress(binascii.Error, ValueError):
        if b64decode(data, validate=True):
            return data
    raise _fault(path, "Expected a data URL, a URL of http or https, or base64")


def _fault(path: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: {message}", details=[Detail(path, message)])
