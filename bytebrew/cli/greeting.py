"""What an engine prints when it is ready: the first thing to try, and the way in."""

import sys

from bytebrew.engine import Engine
from bytebrew.store import schemas


async def greeting(engine: Engine, url: str, *, to_person: bool) -> str:
    """How to say hello to a schema, or where the API is; and the way in, which is a secret that no log is shown."""
    link = engine.auth_mode.link(url)
    way_in = f"Sign in, once: {link}" if to_person else "To get in, run: bytebrew session create"
    return "\n".join([await _hello(engine, url), *([way_in] if link else [])])


async def _hello(engine: Engine, url: str) -> str:
    open_to_chat = [schema.name for schema in await engine.db.read(schemas.list_all) if schema.chat_enabled]
    if engine.auth_mode.name != "local" or not open_to_chat:
        return f"The API is at {url}/api/v1"
    session = f"curl -s -X POST {url}/api/v1/auth/local-session"
    if sys.platform != "linux":  # elsewhere nothing shows whose a connection is
        session += f""" -H "Authorization: Bearer $(cat '{engine.data_dir.resolve()}/local-session.token')\""""
    token = f"""$({session} | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')"""
    return f"""Say hello:

  curl -N {url}/api/v1/schemas/{open_to_chat[0]}/chat \\
    -H "Authorization: Bearer {token}" \\
    -H "Content-Type: application/json" \\
    -d '{{"message": "Hello! What is the current_time?"}}'
"""
