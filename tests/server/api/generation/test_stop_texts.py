"""No part of a stop text is ever shown, and nothing else is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.generation.stop_texts import StopTexts


def shown(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    stop = StopTexts(stops)
    text = "".join(map(stop.add, pieces))
    return text + stop.rest(), stop.found


def first_stop(text: str, stops: list[str]) -> int:
    """Where the stop text begins that is complete first."""
    return min(((place + len(one), place) for one in stops if (place := text.find(one)) >= 0), default=(0, -1))[1]


@given(
    stops=st.lists(st.text("ab.", min_size=1, max_size=5), max_size=3),
    pieces=st.lists(st.text("ab.x", max_size=4), max_size=12),
)
def test_what_is_shown_ends_before_the_stop_text_that_is_complete_first(stops: list[str], pieces: list[str]) -> None:
    text, place = "".join(pieces), first_stop("".join(pieces), stops)
    assert shown(stops, pieces) == ((text, False) if place < 0 else (text[:place], True))


@given(stops=st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3), text=st.text("ab", max_size=20))
def test_at_each_moment_what_was_shown_could_not_be_part_of_a_stop_text(stops: list[str], text: str) -> None:
    stop, seen = StopTexts(stops), ""
    for letter in text:
        seen += stop.add(letter)
        assert len(seen) <= (place if (place := first_stop(text, stops)) >= 0 else len(text))


@pytest.mark.parametrize(
    ("pieces", "steps"),
    [(["ab", "cS", "TO", "x"], ["ab", "c", "", "STOx"]), (["S", "TOP", "y"], ["", "", ""]), (["SSTOP"], ["S"])],
)
def test_an_end_that_may_become_a_stop_text_waits(pieces: list[str], steps: list[str]) -> None:
    stop = StopTexts(["STOP"])
    assert [stop.add(piece) for piece in pieces] == steps


def test_without_stop_texts_nothing_waits() -> None:
    stop = StopTexts([])
    assert stop.add("abc") == "abc"
    assert (stop.rest(), stop.found) == ("", False)
