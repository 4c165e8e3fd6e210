"""The server of the test run."""

import pytest

from bytebrew.testing.postgres import Server, shared_server


@pytest.fixture(scope="session")
def shared() -> Server:
    return shared_server()
