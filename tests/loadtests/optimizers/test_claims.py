"""Who is compared with whom: the fastest of a tool's versions whose quality passes."""

from __future__ import annotations

import pytest

from loadtests.optimizers.claims import FERRY, best_of, claims
from tests.loadtests.optimizers.example import comparison, version

TOOLS = {"swift": "Swift", "absent": "Absent"}


def test_a_fast_version_that_is_wrong_is_not_compared_with() -> None:
    models = comparison()["models"]
    assert best_of(models["digits"]["versions"], "swift") == "swift fp32"
    quality, rate = claims(models, TOOLS)
    assert quality.holds
    assert rate.figure == "digits: rate within the objective / Swift's best (swift fp32)"
    assert rate.found == pytest.approx(200 / 110)
    assert rate.holds


def test_a_version_without_a_rate_is_the_last_to_be_compared_with() -> None:
    versions = {"slow": version("swift", None), "good": version("swift", 1.0)}
    assert best_of(versions, "swift") == "good"
    assert best_of({"slow": version("swift", None)}, "swift") == "slow"


def test_a_tool_whose_only_version_was_not_searched_gives_no_ratio() -> None:
    models = {"digits": {"versions": {FERRY: version(FERRY, 5.0), "slow": version("swift", None)}}}
    assert claims(models, TOOLS)[1].found is None


def test_ferry_too_must_pass_in_quality() -> None:
    models = {"digits": {"versions": {FERRY: version(FERRY, 500.0, 0.9)}}}
    (only,) = claims(models, TOOLS)
    assert not only.holds
