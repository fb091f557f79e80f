"""Options are read strictly: nothing is ignored, nothing is bent."""

from __future__ import annotations

import pytest

from optimizer.errors import OptimizeError
from optimizer.transforms.options import Between, OneOf, settle

KNOWN = (OneOf("bits", 8, (8, 4), "how many"), Between("share", 0.5, 0.0, 1.0, "how much"))


def test_what_is_not_given_has_its_default() -> None:
    assert settle("shrink", KNOWN, {"share": 1}) == {"bits": 8, "share": 1}


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    with pytest.raises(OptimizeError, match=r"shrink: unknown option 'bit'; its options are: bits, share"):
        settle("shrink", KNOWN, {"bit": 4})
    with pytest.raises(OptimizeError, match="its options are: none"):
        settle("plain", (), {"bit": 4})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bits": 3}, r"option bits is 3; give one of 8, 4"),
        ({"bits": "8"}, r"option bits is '8'"),
        ({"share": 1.5}, r"option share is 1\.5; give a number from 0 to 1"),
        ({"share": True}, r"option share is True"),
        ({"share": float("nan")}, r"option share is nan"),
        ({"share": None}, r"option share is None"),
    ],
)
def test_a_wrong_value_is_named_with_the_right_ones(given: dict[str, object], message: str) -> None:
    with pytest.raises(OptimizeError, match=message):
        settle("shrink", KNOWN, given)


def test_true_is_not_one() -> None:
    assert not OneOf("n", 0, (0, 1), "a number").allows(True)
