"""Refuses a request for a turn while its bytes are all that is known of it: that takes a tenth of the time."""

import re
from collections.abc import Callable, Iterable

from msgspec.json import encode

from bytebrew.base.errors import Overloaded
from bytebrew.base.formats import new_id
from bytebrew.contract.route import Route
from bytebrew.web.admission import Admission, Place

REST_BYTES = 65536
"""The longest rest of a body that is thrown away unseen."""
_LENGTH = re.compile(rb"\r\ncontent-length: *([^\r]*)", re.IGNORECASE)
_OTHER = re.compile(
    rb"\r\n(?:(?:origin|expect|transfer-encoding|upgrade) *:|connection *: *+(?!keep-alive\r))", re.IGNORECASE
)
"""Headers that need a closer look: the request goes the long way."""
_PLAIN = re.compile(rb"(?:\r\n[\w!#$%&'*+.^`|~-]+:[^\x00-\x08\n-\x1f\x7f]*)+\r\n")
"""Header lines that all read alike (RFC 9112 section 5): what parsers differ in would hide a request in a body."""


class Refusal:
    """Answers bytes that begin one request for a turn which the engine does not take, in HTTP/1.1.

    Under overload most requests are refused, and what that costs is lost to the turns that run. Those that are not
    have their places at once, or all that come in one look at the network would be let through. What is not plain is
    left to the application, whose refusal has the same words.
    """

    def __init__(
        self,
        admission: Admission,
        is_draining: Callable[[], bool],
        routes: Iterable[Route],
        headers: Iterable[tuple[bytes, bytes]],
    ) -> None:
        self._admission = admission
        self._is_draining = is_draining
        paths = [re.sub(r"\\{\w+\\}", "[!-.0->@-~]+", re.escape(one.path)) for one in routes if one.begins_turn]
        self._wanted = re.compile(rf"POST (?:{'|'.join(paths)})(?:\?[!-~]*)? HTTP/1\.1(?=\r\n)".encode())
        self._headers = b"".join(b"%b: %b\r\n" % line for line in headers)

    def decide(self, data: bytes) -> tuple[bytes, int] | Place | None:
        """The answer and how many bytes of the body are still to come, or the request's place.

        None where the application is to decide.
        """
        admission = self._admission
        wanted = self._wanted.match(data)
        if not wanted or self._is_draining():
            return None
        head, end, body = data.partition(b"\r\n\r\n")
        head += b"\r\n"
        if not end or not _PLAIN.fullmatch(head, wanted.end()) or _OTHER.search(head):
            return None
        length, *others = _LENGTH.findall(head) or [b""]
        if others or not length.isdigit() or not 0 <= (rest := int(length[:19]) - len(body)) <= REST_BYTES:
            return None
        if not (words := admission.lacks()):
            return admission.enter()
        admission.refused += 1
        error = Overloaded(words)
        answer = encode(error.body())
        lines = b"".join(f"{name.lower()}: {value}\r\n".encode() for name, value in error.headers.items())
        lines += b"content-type: application/json\r\ncontent-length: %d\r\n" % len(answer)
        lines += self._headers + f"x-request-id: {new_id('req')}\r\n".encode()
        return b"HTTP/1.1 %d \r\n%b\r\n%b" % (error.status, lines, answer), rest
