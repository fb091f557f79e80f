"""A channel to the server that tests do not change."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.child_server import ChildServer
from tests.server.grpc_api.calls import channel


@pytest.fixture
def wire(server: ChildServer) -> Iterator[grpc.Channel]:
    with channel(server.grpc_port) as opened:
        yield opened
