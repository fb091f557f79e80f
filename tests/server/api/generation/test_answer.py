"""An answer as it grows: what is taken adds up, ends before its stop text, and keeps the tokens that belong to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("tokenizers")

from hypothesis import given, settings
from hypothesis import strategies as st

from server.api.generation.answer import Answer, KeptToken, News
from server.api.generation.stop_texts import StopTexts
from server.errors import InstanceLost
from server.generation.options import Finish, LogProb
from tests.generating import codec, end_id

LOGPROB = LogProb(-1.0, ())


class Heard:
    """Who is called, and how often."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def says(self, what: str) -> Callable[[], None]:
        return lambda: self.calls.append(what)


def answer(stops: tuple[str, ...] = (), heard: Heard | None = None) -> Answer:
    told = heard or Heard()
    stop = StopTexts(stops)
    return Answer(codec().stream(), stop, {end_id()}, told.says("grown"), told.says("changed"), told.says("halt"))


def played(tokens: list[int], stops: tuple[str, ...], take_every: int) -> list[News]:
    """What a reader gets who comes after so many tokens each time."""
    made = answer(stops)
    made.began(0, ())
    news = []
    for number, token in enumerate(tokens, 1):
        made.token(token, LOGPROB)
        if number % take_every == 0:
            news.append(made.take())
    made.ended(Finish.LENGTH)
    return [*news, made.take()]


@given(
    text=st.text("thean STOP中é😀", max_size=30), stops=st.lists(st.text("STOP中e", min_size=1, max_size=4), max_size=2),
    take_every=st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_whenever_a_reader_comes_it_gets_the_same(text: str, stops: list[str], take_every: int) -> None:
    tokens = codec().encode(text, special=False)
    news = played(tokens, tuple(stops), take_every)
    shown, kept = "".join(one.text for one in news), [token for one in news for token in one.tokens]
    assert not any(stop in shown for stop in stops)
    assert text.startswith(shown)
    if not any(stop in text for stop in stops):
        assert (shown, news[-1].finish) == (text, Finish.LENGTH)
        assert [one.token for one in kept] == tokens
    else:
        assert news[-1].finish is Finish.STOP
        assert [one.token for one in kept] == tokens[: len(kept)]
        assert all(one.offset < len(shown) for one in kept)


def test_a_token_is_told_once_its_text_is() -> None:
    made = answer(("STOP",))
    first, second = codec().encode("S", False), codec().encode("x", False)
    made.token(first[0], LOGPROB)
    assert made.take() == News("", [], None)
    made.token(second[0], LOGPROB)
    assert made.take() == News("Sx", [KeptToken(first[0], LOGPROB, 0), KeptToken(second[0], LOGPROB, 1)], None)


def test_the_token_that_ends_it_counts_and_is_not_told() -> None:
    made = answer()
    made.token(codec().encode("x", False)[0], LOGPROB)
    made.token(end_id(), LOGPROB)
    made.ended(Finish.STOP)
    news = made.take()
    assert (news.text, len(news.tokens), news.finish, made.n_tokens) == ("x", 1, Finish.STOP, 2)


def test_half_a_character_at_the_end_is_shown_as_what_it_is() -> None:
    made = answer()
    made.token(codec().encode("é", False)[0], None)
    made.ended(Finish.LENGTH)
    assert made.take().text == "�"


def test_a_stop_text_that_only_the_rest_completes() -> None:
    made = answer(("�",))
    made.token(codec().encode("é", False)[0], None)
    made.ended(Finish.LENGTH)
    assert made.take() == News("", [], Finish.STOP)


def test_it_says_each_thing_once_and_nothing_after_its_end() -> None:
    heard = Heard()
    made = answer(("b",), heard)
    made.began(3, ())
    for token in codec().encode("abc", False):
        made.token(token, None)
    made.ended(Finish.LENGTH)
    made.failed(InstanceLost("too late to matter"))
    assert heard.calls == ["changed", "grown", "halt", "changed"]
    assert (made.n_cached, made.n_tokens, made.error, made.is_over) == (3, 2, None, True)
    assert made.take() == News("a", [], Finish.STOP)


def test_a_failure_is_kept_for_its_reader() -> None:
    heard = Heard()
    made = answer((), heard)
    made.failed(InstanceLost("gone"))
    made.token(1, None)
    assert (str(made.error), heard.calls, made.n_tokens) == ("gone", ["changed"], 0)
