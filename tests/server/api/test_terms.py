"""Time and class, read from headers and parameters and put together."""

from __future__ import annotations

import json

import pytest

from server.api.terms import HeadTerms, Terms, head_priority, read_head_terms, read_priority, says_priority, together
from server.contract.classes import usual_classes
from server.errors import BadRequest

CLASSES = usual_classes(1.0)


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(b"", None), (b"50ms", 0.05), (b"1.5s", 1.5), (b"500us", 0.0005), (b" 2 m ", 120.0)]
)
def test_a_time_has_a_unit(timeout: bytes, seconds: float | None) -> None:
    assert read_head_terms(timeout, b"high", 7) == (seconds, "high", 7)


@pytest.mark.parametrize("timeout", [b"50", b"0ms", b"-1s", b"inf s", b"1 h", b"\xff", b"9" * 60])
def test_what_is_no_time_is_refused(timeout: bytes) -> None:
    with pytest.raises(BadRequest, match=r"X-Request-Timeout: .* is not a duration; write a positive number with a unit"):
        read_head_terms(timeout, b"", 0)


@pytest.mark.parametrize("value", [1.0, None, True, [], {}, 4, -1, "", "HIGH", "1.0", 2**70])
def test_what_is_no_class_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match=r"^it is .*; the classes are 1 \(high\), 2 \(normal\), 3 \(low\)"):
        read_priority(value, CLASSES, "it")


@pytest.mark.parametrize(("priority", "found"), [("", 0), ("0", 0), ("2", 2), ("low", 3)])
def test_a_head_without_a_class_leaves_it_to_the_body(priority: str, found: int) -> None:
    assert head_priority(HeadTerms(None, priority, 0), CLASSES, "m/1") == found


@pytest.mark.parametrize(
    ("head", "priority", "body", "both"),
    [
        (None, 0, Terms(None, 0), Terms(None, 0)), (1.0, 0, Terms(None, 3), Terms(1.0, 3)), (None, 2, Terms(2.0, 0), Terms(2.0, 2)),
        (1.0, 1, Terms(2.0, 3), Terms(1.0, 3)), (2.0, 3, Terms(1.0, 1), Terms(1.0, 3)),
    ],
)  # fmt: skip
def test_the_shorter_time_and_the_less_urgent_class_count(head: float | None, priority: int, body: Terms, both: Terms) -> None:
    assert together(HeadTerms(head, "", 0), priority, body) == both


def test_only_the_json_part_is_searched_for_a_class() -> None:
    says, silent = (json.dumps({"parameters": {name: 1}}).encode() for name in ("priority", "timeout"))
    assert says_priority(says, None)
    assert says_priority(memoryview(says), None)
    assert says_priority(says + b"\0\1", len(says))
    assert not says_priority(silent, None)
    assert not says_priority(silent + says, len(silent))
    assert not says_priority(says, 0)
