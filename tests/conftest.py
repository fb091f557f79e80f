"""Fixtures shared by several packages: a repository of tiny models and a real server process over it."""

from __future__ import annotations

import os

# Before torch is imported, here and in children: two processes whose threads wait for each other by spinning, on two cores, take
# twenty times as long as with one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.child_server import ChildServer


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tiny models, published. Not to be changed by a test."""
    pytest.importorskip("onnx")
    from tests.models import publish_all

    folder = tmp_path_factory.mktemp("tiny_repository")
    publish_all(folder)
    return folder


@pytest.fixture(scope="session")
def server(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    """One server process for every test that does not change it."""
    with ChildServer(tiny_repository, tmp_path_factory.mktemp("server") / "log", "--max-body-bytes", "200000") as running:
        yield running


@pytest.fixture(scope="session")
def sharing_server(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    """Like `server`, with shared memory turned on. Tests unregister what they register."""
    flags = ("--max-body-bytes", "200000", "--shared-memory", "on")
    with ChildServer(tiny_repository, tmp_path_factory.mktemp("sharing") / "log", *flags) as running:
        yield running


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ChildServer]]:
    """Start servers of one's own: start_server(repository, *flags). They end with the test."""
    running: list[ChildServer] = []

    def start(repository: Path, *flags: str, **environment: str) -> ChildServer:
        child = ChildServer(repository, tmp_path / f"log{len(running)}", *flags, **environment)
        running.append(child)
        return child.__enter__()

    yield start
    for child in running:
        child.stop()


@pytest.fixture
def own_repository(tmp_path: Path) -> Path:
    """A repository that the test may change, with the model `affine`."""
    pytest.importorskip("onnx")
    from tests.models import affine, publish_model

    repository = tmp_path / "repository"
    repository.mkdir()
    publish_model(repository, "affine", affine())
    return repository
