"""The executable verifies the JWTs of issuers, for which it needs a library that is an extra of the engine."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.forged import fresh
from tests.issuers import EC, RSA, issued, jwk, jwks
from tests.plugins.test_auth_issuers import issuing, settings_for
from tests.processes import Process

pytestmark = [pytest.mark.shipped, pytest.mark.timeout(120)]


async def test_the_executable_verifies_rsa_and_p256_by_the_keys_at_a_url(unpacked: Path, tmp_path: Path) -> None:
    async with issuing(jwks(jwk(RSA, kid="a"), jwk(EC, kid="b"))) as issuer:
        settings, command = settings_for(f"{issuer.url}/jwks"), (str(unpacked / "bytebrew"),)
        engine = await asyncio.to_thread(Process, tmp_path, settings, command)
        try:
            async with httpx.AsyncClient(base_url=engine.url) as client:
                for key, kid, status in ((RSA, "a", 200), (EC, "b", 200), (RSA, "b", 401)):
                    headers = {"Authorization": f"Bearer {issued(fresh({'sub': 'ada'}), key, kid)}"}
                    assert (await client.get("/api/v1/sessions", headers=headers)).status_code == status
        finally:
            await asyncio.to_thread(engine.stop)
