"""What a client may ask of an answer that is generated, and what it gets piece by piece. No wire format lives here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from server.errors import FerryError
from server.generation.grammars import Grammar

MOST_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen from the logits, in this order: `bias`, penalties, temperature, top-k, top-p, min-p.

    `temperature` 0: the most likely one, whatever the rest says. `top_k` 0, `top_p` 1 and `min_p` 0 keep all. `presence`, `frequency`:
    subtracted from the logit of what was generated, once and for each time. `repetition`: divides (or multiplies, below 0) the logits of
    what is in prompt or answer. `seed` None: one of its own. `logprobs` None: none are wanted; else so many alternatives (0: that of the
    chosen token alone). `ends` False: ids that end an answer are tokens like others. `at_least`: they cannot come before so many tokens.
    `grammar`: the answer is held to it, whatever the rest says; it goes neither with `ends` False nor with `at_least`. `scores`: the prompt's
    tokens are judged too, with as many alternatives as `logprobs` says, which must be set.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence: float = 0.0
    frequency: float = 0.0
    repetition: float = 1.0
    bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logprobs: int | None = None
    ends: bool = True
    at_least: int = 0
    grammar: Grammar | None = None
    scores: bool = False


@dataclass(frozen=True, slots=True)
class LogProb:
    """Natural logarithm of the probability of a token, of a prompt or chosen, by the model itself (temperature 1, before bias, penalties and grammar),
    and of the most likely ones, the likeliest first."""

    chosen: float
    top: tuple[tuple[int, float], ...]


class Finish(Enum):
    """Why an answer ended; `value` is what OpenAI's API calls it."""

    STOP = "stop"  # a token or a text that ends answers
    LENGTH = "length"  # it has all the tokens that were asked for


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, special ones included, and how many tokens are to be generated at most."""

    ids: Sequence[int]
    new_tokens: int


class TokenSink(Protocol):
    """Takes what becomes of one generating request, on the event loop: tokens in order, then exactly one of `ended` and `failed`. A call
    may come after its client is gone; it must not raise and must not wait."""

    def began(self, n_cached: int, scores: Sequence[LogProb]) -> None:
        """Its prompt has been read; so many of its tokens were known from requests before. `scores`: of each of its tokens but the first,
        which nothing comes before; none where they were not asked for."""

    def token(self, token: int, logprob: LogProb | None) -> None:
        """One more, whose id may be one that ends the answer: then `ended` follows."""

    def ended(self, why: Finish) -> None: ...

    def failed(self, error: FerryError) -> None:
        """It was refused, or failed, or its client cancelled it."""
