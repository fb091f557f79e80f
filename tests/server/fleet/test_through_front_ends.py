"""The wire's own tests once more, against a server with two front ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.child_server import ChildServer
from tests.server.api.test_bad_input import *  # noqa: F403
from tests.server.api.test_clients import *  # noqa: F403
from tests.server.api.test_openai import *  # noqa: F403
from tests.server.api.test_recording import *  # noqa: F403
from tests.server.api.test_text import *  # noqa: F403
from tests.server.api.test_wire import *  # noqa: F403


@pytest.fixture(scope="module")
def server(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    """In place of the server in one process."""
    log = tmp_path_factory.mktemp("front_ends") / "log"
    with ChildServer(tiny_repository, log, "--max-body-bytes", "200000", "--frontends", "2") as running:
        yield running
