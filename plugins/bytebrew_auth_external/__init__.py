"""External auth mode: JWTs of another issuer, verified with its public keys from a file or from its JWK set."""

from msgspec import Struct

from bytebrew import AuthMode, Engine, Register, Settings, SettingsError, StateKey, hookimpl

from .key_set import url_fault
from .mode import ANY, External, ExternalMode

MODE = StateKey[ExternalMode]("auth_external")


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(External)


@hookimpl
def register_auth_modes(register: Register[AuthMode], settings: Settings, engine: Engine) -> None:
    own = settings.of(External)
    faults = []
    if unknown := [name for name in own.external_default_scopes if name not in engine.scopes]:
        faults.append(f"BYTEBREW_EXTERNAL_DEFAULT_SCOPES: no such scope: {', '.join(unknown)}")
    if settings.core.auth_mode == ExternalMode.name:
        faults += _key_faults(own)
        if not own.jwt_audience:
            message = "without it a JWT that was made for another service of the issuer would be good here: set the aud"
            faults.append(f"BYTEBREW_JWT_AUDIENCE: {message} that is this engine's, or {ANY} if the issuer gives none")
    if faults:
        raise SettingsError("\n".join(faults))
    engine.state[MODE] = mode = ExternalMode(own, engine.scopes)
    register(mode)


@hookimpl
async def startup(engine: Engine) -> None:
    if engine.settings.core.auth_mode == ExternalMode.name:
        await engine.state[MODE].start(engine.http)


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[MODE].stop()


def _key_faults(own: External) -> list[str]:
    if own.jwt_public_key_path is not None and own.jwt_jwks_url:
        return ["BYTEBREW_JWT_JWKS_URL and BYTEBREW_JWT_PUBLIC_KEY_PATH: set one of them, where the issuer's keys are"]
    if own.jwt_jwks_url and (fault := url_fault(own.jwt_jwks_url)):
        return [f"BYTEBREW_JWT_JWKS_URL {fault}"]
    if own.jwt_jwks_url and not own.jwt_issuer:
        message = "one set of keys may sign for all tenants of a service: set the iss of yours"
        return [f"BYTEBREW_JWT_ISSUER: {message}, or {ANY} for all"]
    if own.jwt_public_key_path is None and not own.jwt_jwks_url:
        wanted = "BYTEBREW_JWT_JWKS_URL or BYTEBREW_JWT_PUBLIC_KEY_PATH"
        return [f"{wanted}: the external auth mode needs the issuer's public keys, at a URL or in a file"]
    return []
