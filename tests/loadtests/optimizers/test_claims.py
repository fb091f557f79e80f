"""Who is compared with whom: the fastest of a tool's versions whose quality passes."""

from __future__ import annotations

import pytest

from loadtests.optimizers.claims import FERRY, OPENVINO, PLAIN, best_of, claims, judged
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


@pytest.mark.parametrize(
    ("limited", "ours", "told", "holds"),
    [
        ((), 120.0, "holds", True),
        (("fast",), 120.0, "limited: proves little", False),
        (("slower",), 120.0, "limited: proves little", False),  # it may be the faster one
        ((FERRY,), 120.0, "holds", True),  # ferry's is a least rate, and it is enough
        ((FERRY,), 50.0, "limited: proves little", False),
        (("fast",), 50.0, "MISSES by 48.5%", False),
        (("wrong", "slow"), 120.0, "holds", True),
    ],
)
def test_a_rate_that_the_generator_limited_proves_little(limited: tuple[str, ...], ours: float, told: str, holds: bool) -> None:
    versions = {
        FERRY: version(FERRY, ours, sha256="b"),
        "fast": version("swift", 100.0),
        "slower": version("swift", 90.0, sha256="c"),
        "wrong": version("swift", 300.0, 0.9, "d"),
        "slow": version("swift", None, sha256="e"),
    }
    for key in limited:
        versions[key]["limited"] = True
    found = claims({"digits": {"versions": versions}}, TOOLS)[1]
    assert (found.told, found.holds) == (told, holds)


@pytest.mark.parametrize(
    ("ours", "told"),
    [(105.0, "holds, inside the noise of 10%"), (92.0, "MISSES by 5.2%, inside the noise of 10%"), (112.0, "holds")],
)
def test_a_difference_that_two_of_one_file_had_too_is_told_as_noise(ours: float, told: str) -> None:
    versions = {PLAIN: version(PLAIN, 110.0), FERRY: version(FERRY, ours, sha256="b"), "same": version("swift", 100.0)}
    assert claims({"digits": {"versions": versions}}, TOOLS)[1].told == told


def test_the_plain_export_on_the_library_that_ferry_may_choose_is_a_rival() -> None:
    found = judged(comparison())
    assert found[1].figure == "digits: rate within the objective / OpenVINO's best (plain export on OpenVINO)"
    assert best_of(comparison()["models"]["digits"]["versions"], OPENVINO) == "plain export on OpenVINO"
