"""Whether there is a card, asked once for each backend; tests skip with its own reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.backends.base import Backend
from server.backends.catalog import find_backends


@pytest.fixture
def backend() -> Callable[[str], Backend]:
    """backend(name): one that calculates on a card, or a skip that says why there is none."""

    def find(name: str) -> Backend:
        found = find_backends()
        if name not in found.usable:
            pytest.skip(f"{name}: {found.missing[name]}")
        return found.usable[name]

    return find
