"""The page of the link that the engine prints: it takes the token out of the link and opens a session with it."""

import base64
import hashlib
from typing import Any

from bytebrew import Reply, Request

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}
:root{color-scheme:light dark}pre{white-space:pre-wrap;overflow-wrap:anywhere}"""
_SCRIPT = """const said = document.getElementById("said"), shown = document.getElementById("shown")
const token = new URLSearchParams(location.hash.slice(1)).get("t")
history.replaceState(null, "", location.pathname)
async function signIn() {
  if (!token) return "Open the link that the engine printed at its start, or run: bytebrew session create"
  const headers = {Authorization: `Bearer ${token}`}
  const response = await fetch("/api/v1/auth/local-session", {method: "POST", headers})
  const answer = await response.json()
  if (!response.ok) return answer.message
  shown.textContent = answer.access_token
  shown.hidden = false
  const until = new Date(answer.expires_at).toLocaleString()
  return `You are in until ${until}. This is the token to send as Authorization: Bearer.`
}
signIn().then(words => { said.textContent = words }, error => { said.textContent = String(error) })
"""


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "content-security-policy": f"default-src 'none'; style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)}; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'",
}
_PAGE = f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>ByteBrew</title><style>{_STYLE}</style>
<h1>ByteBrew</h1><p id=said>Signing in ...</p><pre id=shown hidden></pre>
<p>The API is described at <a href="/docs">/docs</a>.</p><script>{_SCRIPT}</script>"""


async def show_page(request: Request[Any]) -> Reply:
    """A page that opens a session with the token behind the # of its address, which no server and no log sees."""
    return Reply(body=_PAGE.encode(), headers=_HEADERS)
