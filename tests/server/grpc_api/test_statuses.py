"""Errors on the wire: a bug is told without its details, a refusal says when to come back."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from server import errors
from server.errors import FerryError, Refused
from server.grpc_api.statuses import retry_metadata, told


def every(kind: type[FerryError]) -> list[type[FerryError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in every(child))]


def test_every_error_has_a_status_of_grpc() -> None:
    kinds = every(errors.FerryError)
    assert len(kinds) > 10
    assert {kind.grpc_status for kind in kinds} <= {code.name for code in grpc.StatusCode}


def test_a_bug_is_logged_and_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    async def bug() -> None:
        raise ZeroDivisionError("secret")

    with caplog.at_level(logging.ERROR):
        error = asyncio.run(told(bug()))
    assert isinstance(error, FerryError)
    assert error.grpc_status == "INTERNAL"
    assert "secret" not in str(error)
    assert "secret" in caplog.text


def test_a_refusal_says_when_to_come_back() -> None:
    assert retry_metadata(Refused("late", "deadline", None)) == ()
    assert retry_metadata(Refused("late", "deadline", 0.0421)) == (("retry-after", "1"), ("grpc-retry-pushback-ms", "43"))
    assert retry_metadata(Refused("late", "deadline", 1.2))[0] == ("retry-after", "2")
