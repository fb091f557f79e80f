from __future__ import annotations

from loadtests.bars import Bar, bar_chart


def test_bars_are_as_long_as_their_values_and_names_are_escaped() -> None:
    found = bar_chart("a & b", [Bar("<one>", 2.0, "2", "green"), Bar("two", 1.0, "1", "blue"), Bar("gone", None, "-", "blue")])
    assert "a &amp; b" in found
    assert "&lt;one&gt;" in found
    assert [part.split('"')[0] for part in found.split('width="')[1:]] == ["440.0", "220.0", "0.0"]


def test_nothing_measured_is_a_chart_too() -> None:
    assert 'width="0.0"' in bar_chart("t", [Bar("gone", None, "did not run", "blue")])
