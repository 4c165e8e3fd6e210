"""The signatures of a webhook's request: the engine's own form, or that of Standard Webhooks."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from bytebrew import Unauthorized, webhook_key, webhook_signature

TIMESTAMP, SIGNATURE = "x-webhook-timestamp", "x-webhook-signature"
STANDARD_ID, STANDARD_TIMESTAMP, STANDARD_SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
MOST_SIGNATURES = 16
"""Most signatures of one request; a sender that replaces its secret sends two."""
UNSIGNED = (
    "X-Webhook-Signature must be sha256= and the HMAC-SHA256 of timestamp, dot and body in hex, or webhook-signature"
    " that of Standard Webhooks under the webhook's whsec_ secret"
)
_DIGEST = re.compile("sha256=[0-9a-f]{64}")
_V1 = re.compile("v1,[A-Za-z0-9+/]{43}=")
_ID = re.compile(r"[!-\-/-~]{1,255}")
"""Printable ASCII without a dot, which separates the id from the timestamp in what is signed."""


class Claim(NamedTuple):
    """What the headers of a request say; `message_id` is "" in the engine's own form."""

    stamp: int
    signatures: tuple[str, ...]
    message_id: str

    def mark(self, secret: str, body: bytes) -> bytes:
        """What is the same whenever this request comes again; Unauthorized unless it is signed with the secret."""
        if self.message_id:
            try:
                key = webhook_key(secret)
            except ValueError:  # a secret of the engine's own form alone
                key = secrets.token_bytes(32)
            expected = webhook_signature(key, self.message_id, self.stamp, body)
            mark = hashlib.sha256(b"webhook-id " + self.message_id.encode()).digest()
        else:
            mark = hmac.digest(secret.encode(), b"%d." % self.stamp + body, hashlib.sha256)
            expected = f"sha256={mark.hex()}"
        if not any(hmac.compare_digest(one.encode(), expected.encode()) for one in self.signatures):
            raise Unauthorized(UNSIGNED)
        return mark


def claim(headers: Mapping[str, str], moment: float, window: float) -> Claim:
    """The claim of a request; Unauthorized if a header is malformed, or the timestamp more than the window off."""
    standard = STANDARD_ID in headers
    name = STANDARD_TIMESTAMP if standard else TIMESTAMP
    stamp = headers.get(name, "")
    if not re.fullmatch("0|[1-9][0-9]{0,11}", stamp) or abs(moment - int(stamp)) > window:
        shown = name if standard else "X-Webhook-Timestamp"
        raise Unauthorized(f"{shown} must be the present time in seconds since 1970, within {window:g} s")
    if standard:
        sent = headers.get(STANDARD_SIGNATURE, "").split(" ")[:MOST_SIGNATURES]
        signatures = tuple(one for one in sent if _V1.fullmatch(one))  # others may be of other kinds, such as v1a
        message_id = headers[STANDARD_ID]
    else:
        signature = headers.get(SIGNATURE, "").lower()
        signatures, message_id = ((signature,) if _DIGEST.fullmatch(signature) else ()), ""
    if not signatures or (standard and not _ID.fullmatch(message_id)):
        raise Unauthorized(UNSIGNED)
    return Claim(int(stamp), signatures, message_id)
