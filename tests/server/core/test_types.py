"""What requests and batches say of themselves: other tests assert on it."""

from server.core.types import Chunk, Iteration, ModelKey
from tests.server.core.build import KEY, batch, prompt, request


def test_reprs_tell_all_that_matters() -> None:
    one = request(7, deadline_ms=20, rows=2, length=5)
    assert repr(one) == "<#7 m/1 2x5 by 0.020000>"
    assert repr(batch(one, request(8, length=3))) == "<batch 1: 7,8 (3x5, idle)>"


def test_a_request_equals_only_itself() -> None:
    assert request(1) != request(1)


def test_a_reload_is_another_key_with_the_same_name() -> None:
    assert ModelKey("m", 1, 0) != ModelKey("m", 1, 1)
    assert str(ModelKey("m", 1, 1)) == "m/1"


def test_reprs_of_those_who_stay() -> None:
    one = prompt(7, deadline_ms=20, length=100, new_tokens=30)
    assert repr(one) == "<#7 m/1 100+30 tokens, first by 0.020000>"
    assert one.room == 130
    step = Iteration(3, KEY, 1, (prompt(8), prompt(9)), (Chunk(one, 0, 64),), 20, 0.0)
    assert repr(step) == "<step 3 on 1: decode 8,9, prefill 7[0:64]>"
    assert repr(Iteration(4, KEY, 1, (), (Chunk(one, 64, 100),), 20, 0.0)) == "<step 4 on 1: decode -, prefill 7[64:100]>"
    assert step.n_requests == 3
    assert not step.chunks[0].is_last
    assert Chunk(one, 64, 100).is_last
