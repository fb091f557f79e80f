"""The garbage collector is as it was, whatever an import did."""

from __future__ import annotations

import gc

import pytest

from server.imports import importing


def test_it_is_off_inside_and_on_again_afterwards() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_import_that_fails_leaves_it_on() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
