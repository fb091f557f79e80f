"""Classes by number and by name, and how urgent they are beside those of another model."""

from __future__ import annotations

import pytest

from server.contract.classes import Classes, ServiceClass, check_classes, usual_classes
from server.contract.errors import ContractError

CLASSES = Classes((ServiceClass("now", 0.01), ServiceClass("interactive", 0.05), ServiceClass("batch", 2.0)), 2)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("0", 0), ("1", 1), ("3", 3), ("003", 3), ("4", None), ("99999999999", None), ("now", 1), ("batch", 3), ("Batch", None),
        ("", None), ("-1", None), ("\u0663", None), ("1.0", None),
    ],
)  # fmt: skip
def test_a_class_is_found_by_number_and_by_name(wanted: str, found: int | None) -> None:
    assert CLASSES.priority(wanted) == found


def test_the_default_of_every_model_is_equally_urgent() -> None:
    assert [CLASSES.urgency(priority) for priority in (0, 1, 2, 3)] == [0, -1, 0, 1]
    only = Classes((ServiceClass("all", 0.05),), 1)
    assert (only.urgency(0), only.urgency(1), usual_classes(0.05).urgency(0)) == (0, 0, 0)


def test_each_class_has_its_slo() -> None:
    assert [CLASSES.of(priority).slo_s for priority in (0, 1, 2, 3)] == [0.05, 0.01, 0.05, 2.0]
    assert CLASSES.longest_slo_s == 2.0
    assert str(CLASSES) == "1 (now), 2 (interactive), 3 (batch)"


@pytest.mark.parametrize("name", ["", "a b", "ü", "a" * 33, "-a", "a\n"])
def test_names_are_such_that_they_can_be_sent_anywhere(name: str) -> None:
    with pytest.raises(ContractError, match=r"m/model.toml: .* is no name for a class"):
        check_classes([ServiceClass(name, 1.0)], "m/model.toml")
