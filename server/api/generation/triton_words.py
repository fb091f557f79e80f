"""What Triton's clients say in their own way, put into ours: values as texts or in lists of one, other names, options that ask for nothing.

Triton's backends are lenient here and their documents count on it: numbers travel as texts, `bad_words` is sent empty."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from server.api.generation.fields import BodyFields, shown

_SEARCH = "answers are sampled"
_ONE = "there is one answer; the OpenAI routes have 'n'"
_LOGPROBS = "the OpenAI routes tell log probabilities"
_LOGITS = "logits are not told; the OpenAI routes tell log probabilities"
_USAGE = "the OpenAI routes tell it, in 'usage'"
_METRICS = "the server's metrics tell such things"

_NOTHING: dict[str, tuple[object, str]] = {
    "accumulate_tokens": (False, "pieces of a stream hold what is new, and nothing else"),
    "beam_width": (1, _SEARCH), "num_beams": (1, _SEARCH), "use_beam_search": (False, _SEARCH),
    "best_of": (1, _ONE), "n": (1, _ONE), "num_return_sequences": (1, _ONE),
    "return_context_logits": (False, _LOGITS), "return_generation_logits": (False, _LOGITS),
    "return_cumulative_logprob": (False, _LOGPROBS), "return_log_probs": (False, _LOGPROBS), "return_logprobs": (False, _LOGPROBS),
    "return_finish_reason": (False, "the OpenAI routes tell it"),
    "return_kv_cache_reuse_stats": (False, _METRICS), "return_perf_metrics": (False, _METRICS),
    "return_num_input_tokens": (False, _USAGE), "return_num_output_tokens": (False, _USAGE),
}  # fmt: skip
"""The value of each that asks for nothing, and why others are refused."""

_OF_BEAMS = ("early_stopping", "len_penalty", "length_penalty")
"""Beam search alone looks at them; without it no value asks for anything."""

_IDS = {"end_id": "for an answer that no id ends take 'ignore_eos'", "pad_id": "leave it out"}
"""The model knows its own; a client says them because Triton's does not."""

_RENAMED = {"min_length": "min_tokens", "random_seed": "seed"}

_WHOLE = (
    "max_tokens", "min_tokens", "seed", "timeout", "top_k", "min_length", "random_seed", *_IDS,
    *(name for name, (value, _) in _NOTHING.items() if type(value) is int),
)  # fmt: skip
_NUMBERS = (
    "frequency_penalty", "min_p", "presence_penalty", "repetition_penalty", "temperature", "top_p", "len_penalty", "length_penalty",
)  # fmt: skip
_FLAGS = (
    "early_stopping", "exclude_input_in_output", "ignore_eos", "stream",
    *(name for name, (value, _) in _NOTHING.items() if type(value) is bool),
)  # fmt: skip

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")


def in_our_words(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are left to be checked, by the names that they have here. Raises BadParameter for one that asks for what is not
    possible, or that is given by two of its names."""
    found = {name: _typed(name, _one(value)) for name, value in options.items() if value is not None}
    fields = BodyFields(found)
    _drop_nothings(found, fields)
    _take_words(found, fields)
    for theirs, ours in _RENAMED.items():
        if theirs in found:
            _check_once(found, fields, theirs, ours)
            found[ours] = found.pop(theirs)
    return found


def _one(value: Any) -> Any:
    """The value that is alone in a list: inputs of Triton's models are arrays, and clients may say so."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (str, int, float)):
        return value[0]
    return value


def _typed(name: str, value: Any) -> Any:
    """A text that says a number, true or false as what it says, where that is the option's type; else as it came, to be refused."""
    if not isinstance(value, str):
        return value
    if name in _FLAGS:
        return {"true": True, "false": False}.get(value.lower(), value)
    if name in _WHOLE and _INTEGER.fullmatch(value):
        return int(value)
    if name in _NUMBERS and _NUMBER.fullmatch(value) and math.isfinite(float(value)):
        return float(value)
    return value


def _drop_nothings(found: dict[str, Any], fields: BodyFields) -> None:
    for name, (nothing, why) in _NOTHING.items():
        value = found.pop(name, nothing)
        if value != nothing or type(value) is not type(nothing):
            raise fields.wrong(name, f"is not supported: {why}", "unsupported_parameter")
    for name in _OF_BEAMS:
        value = found.pop(name, 0)
        if not isinstance(value, (int, float)):
            raise fields.wrong(name, f"must be a number, true or false, found {shown(value)}")
    for name, instead in _IDS.items():
        value = found.pop(name, 0)
        if type(value) is not int or value < 0:
            raise fields.wrong(name, f"must be the id of a token, found {shown(value)}; {instead}")


def _take_words(found: dict[str, Any], fields: BodyFields) -> None:
    """Triton's documents send both, empty."""
    if _words("bad_words", found, fields):
        raise fields.wrong("bad_words", "is not supported: use 'logit_bias' with the ids of tokens", "unsupported_parameter")
    stops = _words("stop_words", found, fields)
    if stops:
        _check_once(found, fields, "stop_words", "stop")
        found["stop"] = stops


def _words(name: str, found: dict[str, Any], fields: BodyFields) -> list[str]:
    """Those that are not empty; they are taken out."""
    value = found.pop(name, [])
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise fields.wrong(name, f"must be a string or a list of them, found {shown(value)}")
    return [word for word in words if word]


def _check_once(found: Mapping[str, Any], fields: BodyFields, theirs: str, ours: str) -> None:
    if ours in found:
        raise fields.wrong(theirs, f"is '{ours}' here, which is given too; give one of them")
