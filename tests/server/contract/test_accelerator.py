"""Where a file that was built for one card can run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.contract.accelerator import Accelerator, BuiltFor
from server.contract.errors import ContractError
from server.contract.fields import Fields

A_CARD = Accelerator("A card", "9.0", "570.1", "12.8")
ENGINE = BuiltFor(A_CARD, "tensorrt 1")


def test_round_trip() -> None:
    assert BuiltFor.from_json(Fields(ENGINE.to_json(), "here")) == ENGINE


def test_refuses_unknown_fields() -> None:
    with pytest.raises(ContractError, match="here: accelerator: unknown field 'fans'"):
        BuiltFor.from_json(Fields({"accelerator": {**A_CARD.to_json(), "fans": "2"}, "runtime": "x"}, "here"))


@pytest.mark.parametrize("card", [A_CARD, replace(A_CARD, driver="580.2", cuda="13.0")])
def test_a_card_of_the_kind_will_do_whatever_its_driver(card: Accelerator) -> None:
    assert ENGINE.mismatch(card, "tensorrt 1") is None


@pytest.mark.parametrize(
    ("card", "runtime", "reason"),
    [
        (None, "tensorrt 1", "it was built for A card, there is no such card here"),
        (
            Accelerator("B card", "8.9", "570.1", "12.8"), "tensorrt 1",
            "it was built for A card (compute capability 9.0), the card here is B card (8.9); optimize the model again on this machine",
        ),
        (replace(A_CARD, name="A card, half"), "tensorrt 1", "the card here is A card, half (9.0)"),
        (A_CARD, "tensorrt 2", "it was built by tensorrt 1, here is tensorrt 2; optimize the model again, or install the other"),
    ],
)  # fmt: skip
def test_another_card_or_library_is_named(card: Accelerator | None, runtime: str, reason: str) -> None:
    assert reason in str(ENGINE.mismatch(card, runtime))


def test_a_card_in_words() -> None:
    assert str(A_CARD) == "A card, compute capability 9.0, driver 570.1, CUDA 12.8"
