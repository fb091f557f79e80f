"""On which terms models are asked."""

from __future__ import annotations

import pytest

from loadtests.errors import MissingData
from loadtests.side_by_side import TERMS, terms_of


def test_terms_are_known_by_the_models_name() -> None:
    assert terms_of("digits") is TERMS["digits"]
    with pytest.raises(MissingData, match="--models abacus: known are digits, resnet18, minilm"):
        terms_of("abacus")
