from __future__ import annotations

import pytest

from loadtests.peers.summary import Win, echo_per_s, limits, lines, wins
from tests.loadtests.peers.example import comparison


def test_ferry_comes_first_then_who_is_fastest_then_who_did_not_run() -> None:
    assert [one.name for one in lines(comparison())] == ["ferry", "fast", "shaky", "gone"]


def test_figures_are_medians_and_ratios_are_taken_within_a_round() -> None:
    ferry, fast, shaky, _ = lines(comparison())
    assert ferry.per_s == {"digits": 1000, "resnet18": 50}
    assert ferry.binary_per_s == {"digits": 1500, "resnet18": None}
    assert ferry.share == {"digits": 0.25, "resnet18": 0.5}
    assert ferry.cpu_us == 1000
    assert fast.goodput == {"0.8": 1.0, "1.5": 0.0}
    assert fast.idle_mb == 80
    assert fast.cold_s == 1.25
    assert shaky.share["resnet18"] == pytest.approx(0.1)


def test_what_did_not_run_has_its_reason() -> None:
    *_, shaky, gone = lines(comparison())
    assert shaky.reasons == {"resnet18": "1 of 3 visits failed: status 500:\n boom | bang"}
    assert gone.reasons == {"": "no matching distribution"}
    assert gone.per_s == {"digits": None, "resnet18": None}
    assert gone.goodput == {}


def test_requests_that_a_closed_loop_lost_are_told() -> None:
    content = comparison()
    content["rounds"][2]["visits"]["digits"]["fast"]["lanes"]["JSON"] |= {"n_refused": 3, "n_failed": 1}
    found = lines(content)[1].reasons
    assert found == {"digits": "in the closed loop 3 of 34 requests were refused and 1 failed"}


def test_limits_and_echo_are_medians() -> None:
    assert limits(comparison()) == {"digits": 4000, "resnet18": 100}
    assert echo_per_s(comparison()) == 9000


def test_where_others_win() -> None:
    assert wins(comparison()) == [Win("digits req/s", ["Fast 2x"]), Win("CPU per request", ["Fast 2x"])]


def test_a_share_of_nothing_can_be_beaten() -> None:
    content = comparison()
    for one in content["rounds"]:
        one["visits"]["digits"]["ferry"]["overload"]["0.8"]["goodput_share"] = 0.0
    assert wins(content)[-1] == Win("goodput at 0.8 x", ["Shaky 1.00", "Fast 1.00"])


def test_without_ferry_nobody_is_ahead_of_it() -> None:
    content = comparison()
    del content["peers"]["ferry"]
    assert wins(content) == []
