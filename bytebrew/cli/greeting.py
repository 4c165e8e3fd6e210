"""The greeting of a started engine: a command to try and how to sign in."""

import sys

from bytebrew.engine import Engine
from bytebrew.store.configuration import schemas


async def greeting(engine: Engine, url: str, *, to_person: bool) -> str:
    """The greeting; the sign-in link is a secret, so it is printed on a terminal, never to a log."""
    link = engine.auth_mode.link(url)
    sign_in = f"Sign in, once: {link}" if to_person else "To get in, run: bytebrew session create"
    shared = [f"The data is in {engine.driver.place}"] if engine.driver.shared else []
    return "\n".join([*shared, await _first_command(engine, url), *([sign_in] if link else [])])


async def _first_command(engine: Engine, url: str) -> str:
    open_to_chat = [schema.name for schema in await engine.db.read(schemas.list_all) if schema.chat_enabled]
    if engine.auth_mode.name != "local" or not open_to_chat:
        return f"The API is at {url}/api/v1"
    session = f"curl -s -X POST {url}/api/v1/auth/local-session"
    if sys.platform != "linux":  # only Linux shows which user owns the other end of a connection
        session += f""" -H "Authorization: Bearer $(cat '{engine.data_dir.resolve()}/local-session.token')\""""
    token = f"""$({session} | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')"""
    return f"""Say hello:

  curl -N {url}/api/v1/schemas/{open_to_chat[0]}/chat \\
    -H "Authorization: Bearer {token}" \\
    -H "Content-Type: application/json" \\
    -d '{{"message": "Hello! What is the current_time?"}}'
"""
