"""Addresses: which are the internet's, which a cloud's metadata, and that no spelling gets past the look at them."""

import pytest

from bytebrew import Core, ProviderError, SettingsError
from bytebrew.base.http_client.addresses import is_metadata, is_public
from bytebrew.base.http_client.client import Http
from bytebrew.testing import engine


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "168.63.129.16"),
        *("169.254.169.254", "172.16.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1"),
        *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1"),
        *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1"),
        *("2002:7f00:1::", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    ],
)
def test_an_address_that_is_not_the_internets_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2606:4700:4700::1111"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


METADATA = (
    *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
    *("fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
)


@pytest.mark.parametrize("address", METADATA)
def test_an_address_at_which_a_cloud_gives_credentials_away_is_its_metadata(address: str) -> None:
    assert is_metadata(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "192.168.0.1", "1.1.1.1", "::1", "fd00::1"])
def test_an_operators_own_address_is_no_metadata(address: str) -> None:
    assert not is_metadata(address)


SPELLINGS = {
    "is link-local, as a cloud's metadata is": (
        *("http://169.254.169.254/latest/meta-data", "http://[::ffff:169.254.169.254]", "http://[fe80::1]:8080"),
        "http://0xa9fea9fe/",
    ),
    "cannot be called": ("http://2852039166/", "http://0251.0376.0251.0376/"),
}


@pytest.mark.parametrize(("words", "url"), [(words, url) for words, urls in SPELLINGS.items() for url in urls])
async def test_metadata_is_refused_to_everybody_however_it_is_spelt(words: str, url: str) -> None:
    http = Http(Core())
    try:
        with pytest.raises(ProviderError) as refused:
            await http.fetch("GET", url)
    finally:
        await http.aclose()
    assert words in refused.value.message
    assert not refused.value.retry


async def test_a_link_local_address_on_the_operators_list_is_connected_to() -> None:
    http = Http(Core(link_local_addresses=("fe80::1",)))
    try:
        with pytest.raises(ProviderError) as refused:  # by the network now, and not by the list
            await http.fetch("GET", "http://[fe80::1%259999]:1/")
    finally:
        await http.aclose()
    assert "link-local, as" not in refused.value.message


async def test_a_list_with_what_is_no_address_stops_the_boot() -> None:
    with pytest.raises(SettingsError, match=r"BYTEBREW_LINK_LOCAL_ADDRESSES: 'metadata\.local' is no IP address"):
        async with engine(settings={"BYTEBREW_LINK_LOCAL_ADDRESSES": "metadata.local"}):
            pass


async def test_a_list_with_an_address_that_needs_no_listing_stops_the_boot() -> None:
    with pytest.raises(SettingsError, match=r"10\.0\.0\.1 is not link-local"):
        async with engine(settings={"BYTEBREW_LINK_LOCAL_ADDRESSES": "10.0.0.1"}):
            pass
