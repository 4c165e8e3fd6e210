"""The state shared by all HTTP requests to one engine, even with several servers."""

from bytebrew.base.machine import descriptors
from bytebrew.config.core_options import CORS_ORIGINS
from bytebrew.contract.engine import TRAFFIC, StateKey, Traffic
from bytebrew.engine import Engine
from bytebrew.web import cors
from bytebrew.web.access import Access
from bytebrew.web.admission import MOST_BODIES, MOST_PUBLIC_BODIES, Admission, default_body_memory, default_turns
from bytebrew.web.refusals import Refusals
from bytebrew.web.server.trusted_proxies import TrustedProxies
from bytebrew.web.tickets import Tickets


class HttpState:
    """Access, limits, allowed origins and counts of an engine's requests."""

    def __init__(self, engine: Engine) -> None:
        core = engine.settings.core
        most = core.max_turns or default_turns(core.workers)
        runner = engine.runner
        self.admission = Admission(most, descriptors.share().upstreams, runner.turns, runner.remote, engine.db.delay)
        self.bodies = default_body_memory(core.max_upload_bytes, MOST_BODIES, core.workers)
        self.public_bodies = default_body_memory(core.max_body_bytes, MOST_PUBLIC_BODIES, core.workers)
        self.refusals = Refusals()
        self.proxies = TrustedProxies(core.trusted_proxies) if core.trusted_proxies else None
        self.tickets = Tickets(engine.secrets)
        self.streams = 0
        self.origins = self._settings_origins = core.cors_origins
        self.page_headers = (*cors.ALLOWED, *(name for chooser in engine.model_choosers for name in chooser.headers))
        self.access = Access(engine.auth_mode, engine.token_modes, engine.scopes, lambda: self.origins)
        engine.options.watch(CORS_ORIGINS.key, self._allow)
        engine.state[TRAFFIC] = lambda: Traffic(self.streams, self.admission.refused)

    def _allow(self, origins: tuple[str, ...]) -> None:
        self.origins = (*self._settings_origins, *origins)


HTTP_STATE = StateKey[HttpState]("http")


def http_state(engine: Engine) -> HttpState:
    """The engine's HTTP state, created at the first call."""
    if HTTP_STATE not in engine.state:
        engine.state[HTTP_STATE] = HttpState(engine)
    return engine.state[HTTP_STATE]
