"""Images and files that go along with a message."""

import base64
import mimetypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """An image or a file: its bytes, or a URL that the model's vendor fetches."""

    media_type: str
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None
    name: str = ""

    @classmethod
    def file(cls, path: str | Path, media_type: str = "") -> "Attachment":
        """A file of this machine; ValueError if its name does not say what it is and `media_type` does not either."""
        path = Path(path)
        kind = media_type or mimetypes.guess_type(path.name)[0]
        if kind is None:
            raise ValueError(f"the media type of {path.name} is not known: name it by media_type")
        return cls(media_type=kind, data=path.read_bytes(), name=path.name)

    def body(self) -> dict[str, Any]:
        """The attachment as a chat sends it."""
        data = {"data": base64.b64encode(self.data).decode()} if self.data is not None else {}
        url = {"url": self.url} if self.url is not None else {}
        return {"media_type": self.media_type, "name": self.name, **data, **url}
