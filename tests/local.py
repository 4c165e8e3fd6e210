"""The session of the local admin, as tests open it that run in the engine's own process."""

from pathlib import Path

import httpx
from nacl.signing import SigningKey

from bytebrew.base.secrets import Secrets
from bytebrew.engine import Engine
from tests.stored import ON_POSTGRESQL

SESSION = "/api/v1/auth/local-session"


def proof_of(data: Path) -> dict[str, str]:
    """The header with the token of the link, which is good once."""
    return {"authorization": f"Bearer {(data / 'local-session.token').read_text().strip()}"}


def key_of(data: Path) -> SigningKey:
    """The key that signs the sessions of an engine with this data folder."""
    if ON_POSTGRESQL:
        return SigningKey(Secrets.load(data / "keys" / "secrets.key").derived(b"local-sessions").mac(b"seed"))
    return SigningKey(bytes.fromhex((data / "keys" / "jwt_ed25519.priv").read_text())[:32])


async def local_session(engine: Engine, client: httpx.AsyncClient) -> str:
    """The bearer token of a new session."""
    response = await client.post(SESSION, headers=proof_of(engine.data_dir))
    assert response.status_code == 200, response.text
    token: str = response.json()["access_token"]
    return token
