"""How an answer is to be generated, as OpenAI's and Triton's bodies say it with the same names: read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.api.generation.fields import BodyFields, shown
from server.api.generation.response_format import FIELD, read_response_format
from server.api.openai_errors import BadParameter
from server.generation.options import Prompt, Sampling
from server.generation.serving import GeneratingModel

MOST_STOPS = 16
LONGEST_STOP = 256
MOST_STOP_CHARACTERS = 1024
MOST_BIASES = 1024
MOST_TOKENS = 2**31 - 1

LEAST_TEMPERATURE = 1e-6
"""Below it nothing but the likeliest token has a chance that a float32 could tell from none."""

WISHES = (
    "frequency_penalty", "ignore_eos", "logit_bias", "max_tokens", "min_p", "min_tokens", "presence_penalty",
    "repetition_penalty", "response_format", "seed", "stop", "temperature", "top_k", "top_p",
)  # fmt: skip
"""Fields that `read_wishes` reads."""

_BY_SCHEMA = "answers are held to JSON schemas only, which 'response_format' takes"
OTHER_NAMES = {
    "guided_json": "its name here is 'response_format'", "structured_outputs": "'response_format' takes a JSON schema",
    "guided_regex": _BY_SCHEMA, "guided_choice": "say it as a schema with 'enum', in 'response_format'", "guided_grammar": _BY_SCHEMA,
}  # fmt: skip
"""What other servers call fields like ours."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """As far as they can be read without the model. `max_tokens` None: not said. `schema`: what the answer is held to, as JSON."""

    sampling: Sampling
    stops: tuple[str, ...]
    max_tokens: int | None
    schema: str | None = None


def read_wishes(fields: BodyFields, logprobs: int | None = None, most_tokens: str = "max_tokens") -> Wishes:
    """`most_tokens`: the field that says how many tokens are wanted. Raises BadParameter."""
    max_tokens = fields.integer(most_tokens, 1, 1, MOST_TOKENS) if fields.has(most_tokens) else None
    temperature = fields.number("temperature", 1, 0, 2)
    sampling = Sampling(
        temperature=temperature if temperature >= LEAST_TEMPERATURE else 0.0,
        top_k=max(0, fields.integer("top_k", 0, -1, MOST_TOKENS)),
        top_p=fields.number("top_p", 1, 0, 1),
        min_p=fields.number("min_p", 0, 0, 1),
        presence=fields.number("presence_penalty", 0, -2, 2),
        frequency=fields.number("frequency_penalty", 0, -2, 2),
        repetition=fields.number("repetition_penalty", 1, 0.01, 100),
        bias=_biases(fields),
        seed=fields.integer("seed", 0, -(2**63), 2**63 - 1) % 2**64 if fields.has("seed") else None,
        logprobs=logprobs,
        ends=not fields.flag("ignore_eos"),
        at_least=fields.integer("min_tokens", 0, 0, MOST_TOKENS),
    )
    if sampling.top_p == 0:
        raise fields.wrong(
            "top_p", "must be above 0: it is a share of the probability; for the likeliest token take temperature 0"
        )
    if max_tokens is not None and sampling.at_least > max_tokens:
        raise fields.wrong("min_tokens", f"is {sampling.at_least}, more than '{most_tokens}', which is {max_tokens}")
    return Wishes(sampling, _stops(fields), max_tokens, _schema(fields, sampling))


def most_tokens_name(fields: BodyFields) -> str:
    """OpenAI has two names for the most new tokens. Load generators give both, with the same number, so that every server finds one it
    knows: that is fine. Raises BadParameter for two numbers."""
    newer, older = "max_completion_tokens", "max_tokens"
    if not fields.has(newer):
        return older
    if fields.has(older) and repr(fields.value(older)) != repr(fields.value(newer)):  # repr: 1 is neither 1.0 nor true
        raise fields.wrong(older, f"is the older name of '{newer}', and they differ; give one of them")
    return newer


def _schema(fields: BodyFields, sampling: Sampling) -> str | None:
    schema = read_response_format(fields)
    for name, is_said in (("ignore_eos", not sampling.ends), ("min_tokens", sampling.at_least > 0)):
        if schema is not None and is_said:
            raise fields.wrong(name, f"does not go with '{FIELD}': the answer ends where its value is complete; leave it out")
    return schema


def _biases(fields: BodyFields) -> dict[int, float]:
    value = fields.value("logit_bias") or {}
    if not isinstance(value, dict) or len(value) > MOST_BIASES:
        raise fields.wrong("logit_bias", f"must be an object of up to {MOST_BIASES} token ids and their biases")
    numbers = BodyFields(value, "logit_bias.")
    return {_token(numbers, name): numbers.number(name, 0, -100, 100) for name in value}


def _token(fields: BodyFields, name: str) -> int:
    if not (name.isascii() and name.isdigit() and len(name) < 10):
        raise fields.wrong(name, "must be a token id in digits")
    return int(name)


def _stops(fields: BodyFields) -> tuple[str, ...]:
    value: Any = fields.value("stop")
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(stop, str) for stop in stops):
        raise fields.wrong("stop", f"must be a string or a list of up to {MOST_STOPS}, found {shown(value)}")
    if not all(0 < len(stop) <= LONGEST_STOP for stop in stops):
        raise fields.wrong("stop", f"has a string that is empty, or longer than {LONGEST_STOP} characters; leave it out")
    if sum(map(len, stops)) > MOST_STOP_CHARACTERS:
        raise fields.wrong(
            "stop", f"has more than {MOST_STOP_CHARACTERS:,} characters in all; each is looked for at every token"
        )
    return tuple(stops)


def make_prompt(model: GeneratingModel, ids: list[int], wishes: Wishes, param: str, usual_tokens: int | None) -> Prompt:
    """Ids with the tokens that they may have after them. `param`: the field that they came from; `usual_tokens`: where nobody said how
    many are wanted; None: as many as there is room for. Raises BadParameter."""
    longest, vocabulary = model.generation.longest, model.generation.vocabulary
    n_given = len(ids)
    if not ids:
        raise BadParameter(param, f"'{param}' is empty; give at least one token")
    wanted = wishes.max_tokens or max(wishes.sampling.at_least, 1)
    if n_given + wanted > longest:
        raise BadParameter(
            param,
            f"{model.key.name} takes {longest} tokens at most, prompt and answer together; '{param}' has {n_given} and at least {wanted} "
            "more are asked for: shorten one of them",
            "context_length_exceeded",
        )
    wrong = next((token for token in ids if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise BadParameter(param, f"'{param}' has the id {shown(wrong)}; {model.key.name} knows ids from 0 to {vocabulary - 1}")
    wrong = next((token for token in wishes.sampling.bias if token >= vocabulary), None)
    if wrong is not None:
        raise BadParameter(
            "logit_bias", f"'logit_bias' names the id {wrong}; {model.key.name} knows ids from 0 to {vocabulary - 1}"
        )
    room = longest - n_given
    new_tokens = wishes.max_tokens or min(room, max(usual_tokens or room, wanted))
    return Prompt(ids, new_tokens)
