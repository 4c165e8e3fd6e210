"""The URLs and origins that the API takes: what other programs can read, IPv6 addresses among them."""

from ipaddress import IPv6Address
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew import Origin, Url
from bytebrew.testing import served_engine


def takes(text: str, type: object) -> bool:
    try:
        msgspec.convert(text, type)
    except msgspec.ValidationError:
        return False
    return True


@given(st.ip_addresses(v=6), st.booleans(), st.sampled_from(["", ":1", ":65535"]))
def test_an_ipv6_address_is_a_host_in_every_form(address: IPv6Address, whole: bool, port: str) -> None:
    url = f"https://[{address.exploded if whole else address.compressed}]{port}"
    assert takes(url, Origin)
    assert takes(f"{url}/v1?x=1", Url)


@given(st.text("[]:0f.", max_size=20))
def test_what_is_taken_can_be_read(host: str) -> None:
    for url, type in ((f"http://{host}", Origin), (f"http://{host}/v1", Url)):
        if takes(url, type):
            urlsplit(url)


@pytest.mark.parametrize("host", ["[0", "0]", "[0]", "[1:2:3]", "[::1]8", "a[b]", "[::1::]", "[1:2:3:4:5:6:7:8::]"])
async def test_brackets_that_hold_no_address_are_refused_in_words(host: str) -> None:
    assert not takes(f"http://{host}", Url)
    assert not takes(f"http://{host}", Origin)
    async with served_engine() as (_, client):
        tool = {"name": "look", "url": f"http://{host}/a"}
        refused = await client.post("/api/v1/tools", json=tool)
    assert refused.status_code == 400
    assert refused.json()["details"][0]["path"] == "$.url"
