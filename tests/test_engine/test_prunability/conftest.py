"""The processes of these tests are forked from a server that has imported what they need, once."""

import forkserver
import pytest


@pytest.fixture(scope='session', autouse=True)
def _started_server():
    forkserver.start()
