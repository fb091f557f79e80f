"""The benchmark of images against a server that is not ferry, with commands that publish nothing."""

from __future__ import annotations

from loadtests.bench_images import _ratio, _share, parse
from loadtests.lanes import Sample


def sample(per_s: float, cpu_us: float) -> Sample:
    return Sample(per_s, cpu_us, 1.0, 2.0, 3.0, 10, 0, 0)


def test_ratios_are_taken_within_a_round() -> None:
    binary, json = [sample(1, 10), sample(1, 40), sample(1, 30)], [sample(1, 1000), sample(1, 2000), sample(1, 3000)]
    assert _ratio(binary, json) == 0.01


def test_a_share_is_of_the_rates_in_process_of_its_own_round() -> None:
    assert _share([sample(9, 1), sample(16, 1), sample(47, 1)], [10, 10, 10, 30, 50, 50]) == 0.9


def test_the_command_line_has_defaults_for_ferry() -> None:
    options = parse(["--rounds", "2"])
    assert (options.model, options.rounds) == ("resnet18", 2)
    assert "server.cli serve" in options.server
