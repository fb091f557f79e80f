"""On which terms models are asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtests import side_by_side
from loadtests.child import Child
from loadtests.errors import MissingData, ServerError
from loadtests.lanes import Lane
from loadtests.side_by_side import TERMS, terms_of
from loadtests.wire import Head, Response


def test_terms_are_known_by_the_models_name() -> None:
    assert terms_of("digits") is TERMS["digits"]
    with pytest.raises(MissingData, match="--models abacus: known are digits, resnet18, minilm"):
        terms_of("abacus")


def replying(*statuses: int) -> tuple[list[int], Callable[..., Response]]:
    left = list(statuses)

    def call(*_: object, **__: object) -> Response:
        status = left.pop(0) if len(left) > 1 else left[0]
        body = b'{"outputs": []}' if status == 200 else b'{"error": "busy"}'
        return Response(Head(status, {}, len(body), False), body)

    return left, call


def test_a_refused_question_is_asked_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane("demo", Child(0, 0, 0.0), [], 1)
    _, call = replying(503, 503, 200)
    monkeypatch.setattr(side_by_side, "call", call)
    assert side_by_side.asked(lane, b"") == {}
    _, call = replying(503)
    monkeypatch.setattr(side_by_side, "call", call)
    with pytest.raises(ServerError, match="busy"):
        side_by_side.asked(lane, b"")
    left, call = replying(400, 200)
    monkeypatch.setattr(side_by_side, "call", call)
    with pytest.raises(ServerError, match="400"):
        side_by_side.asked(lane, b"")
    assert left == [200]
