"""Load shedding: rejects a request for a turn before it is parsed, in a tenth of the time."""

import re
from collections.abc import Iterable

from msgspec.json import encode

from bytebrew.base.errors import Overloaded
from bytebrew.base.formats import new_id
from bytebrew.contract.route import Route
from bytebrew.conversation.runner import Runner
from bytebrew.web.admission import Admission, Place

REST_BYTES = 65536
"""Longest rest of a body that is read and discarded after a rejection."""
_LENGTH = re.compile(rb"\r\ncontent-length: *([^\r]*)", re.IGNORECASE)
_OTHER = re.compile(
    rb"\r\n(?:(?:origin|expect|transfer-encoding|upgrade) *:|connection *: *+(?!keep-alive\r))", re.IGNORECASE
)
"""Headers of requests that only the application decides on."""
_PLAIN = re.compile(rb"(?:\r\n[\w!#$%&'*+.^`|~-]+:[^\x00-\x08\n-\x1f\x7f]*)+\r\n")
"""Header lines that all parsers read alike (RFC 9112 section 5); others allow request smuggling."""


class Refusal:
    """Rejects an HTTP/1.1 request for a turn by its first bytes if the engine is overloaded.

    Under overload most requests are rejected, and each rejection takes CPU time from running turns. An admitted request
    gets its place here: otherwise all requests that arrive in one read would be admitted. A request with unusual
    headers goes to the application, which rejects it with the same message.
    """

    def __init__(
        self, admission: Admission, runner: Runner, routes: Iterable[Route], headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self._admission = admission
        self._runner = runner
        paths = [re.sub(r"\\{\w+\\}", "[!-.0->@-~]+", re.escape(one.path)) for one in routes if one.begins_turn]
        self._turns = re.compile(rf"POST (?:{'|'.join(paths)})(?:\?[!-~]*)? HTTP/1\.1(?=\r\n)".encode())
        self._headers = b"".join(b"%b: %b\r\n" % line for line in headers)

    def decide(self, data: bytes) -> tuple[bytes, int] | Place | None:
        """A rejection and the length of the rest of the body, or the place of an admitted request.

        None leaves the decision to the application.
        """
        admission = self._admission
        head_line = self._turns.match(data)
        if not head_line or self._runner.draining:
            return None
        head, end, body = data.partition(b"\r\n\r\n")
        head += b"\r\n"
        if not end or not _PLAIN.fullmatch(head, head_line.end()) or _OTHER.search(head):
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
