"""The pages that a browser shows after an authorization."""

import base64
import hashlib
import html
from collections.abc import Mapping

from bytebrew import Reply

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}
:root{color-scheme:light dark}body{overflow-wrap:anywhere}button{font:inherit;padding:.4rem 1rem}"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
}


def page(title: str, text: str, status: int = 200, form: Mapping[str, str] | None = None) -> Reply:
    """A page with a text, and with a button that sends the form if there is one."""
    fields = "".join(
        f'<input type=hidden name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in (form or {}).items()
    )
    button = f"<form method=get>{fields}<button>Connect</button></form>" if form else ""
    body = f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{html.escape(title)}</title><style>{_STYLE}</style>
<h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>{button}"""
    return Reply(body=body.encode(), status=status, headers=dict(_HEADERS))
