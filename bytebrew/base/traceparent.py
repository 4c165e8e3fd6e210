"""The header `traceparent` of W3C Trace Context (https://www.w3.org/TR/trace-context/)."""

import re

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def read_traceparent(header: str) -> str | None:
    """The header as version 00 has it; None if it is invalid, and then to be ignored (section 3.2).

    Of a later version the parts that version 00 knows are kept, as section 4.3 wants it.
    """
    match = _FORM.fullmatch(header.strip(" \t"))
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return f"00-{trace_id}-{parent_id}-{int(flags, 16) & 1:02x}"
