"""What requests and batches say of themselves: other tests assert on it."""

from server.core.types import ModelKey
from tests.server.core.build import batch, request


def test_reprs_tell_all_that_matters() -> None:
    one = request(7, deadline_ms=20, rows=2, length=5)
    assert repr(one) == "<#7 m/1 2x5 by 0.020000>"
    assert repr(batch(one, request(8, length=3))) == "<batch 1: 7,8 (3x5, idle)>"


def test_a_request_equals_only_itself() -> None:
    assert request(1) != request(1)


def test_a_reload_is_another_key_with_the_same_name() -> None:
    assert ModelKey("m", 1, 0) != ModelKey("m", 1, 1)
    assert str(ModelKey("m", 1, 1)) == "m/1"
