"""A server over an engine that says what it is told, and the openai client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

pytest.importorskip("tokenizers")

from tests.child_server import Reply, call
from tests.fake_generation import FakeEngine, FakeModels, FakeServer, fake_model, spoken

Post = Callable[..., Reply]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(spoken())


@pytest.fixture
def talking(engine: FakeEngine) -> Iterator[FakeServer]:
    with FakeServer(engine, FakeModels(fake_model())) as running:
        yield running


@pytest.fixture
def ai(talking: FakeServer) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{talking.port}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def post(talking: FakeServer) -> Iterator[Post]:
    """post(path, body) over one connection."""
    connection = HTTPConnection("127.0.0.1", talking.port, timeout=30)
    yield lambda path, body, method="POST", headers=None: call(connection, method, path, body, headers)
    connection.close()
