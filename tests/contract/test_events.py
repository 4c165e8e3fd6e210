"""Each event type says what the public view shows of it."""

from msgspec.structs import fields

from bytebrew.testing import engine
from bytebrew.web.api_document.openapi import EVENTS


async def test_every_event_says_which_of_its_fields_the_public_view_shows() -> None:
    async with engine() as running:
        kinds = {*EVENTS, *running.events}
    silent = sorted(kind.__name__ for kind in kinds if "public" not in vars(kind))
    assert not silent, "name the fields that a visitor of a public page may see, or say public = ()"
    for kind in kinds:
        own = {field.name for field in fields(kind)} - {"agent", "parent_call_id"}
        assert own.issuperset(kind.public), kind
