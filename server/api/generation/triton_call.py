"""A request that generates in Triton's words, whichever way it came: read, checked, and made a job for one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.api.generation.fields import BodyFields
from server.api.generation.prompts import text_ids
from server.api.generation.response_format import held
from server.api.generation.running import Job
from server.api.generation.wishes import OTHER_NAMES, WISHES, Wishes, make_prompt, read_wishes
from server.api.parameters import read_terms
from server.api.terms import HeadTerms, Terms, head_priority, together
from server.contract.tensors import DataType, TensorSpec
from server.generation.serving import GeneratingModel

TEXT_INPUT = "text_input"
TEXT_OUTPUT = "text_output"
WITHOUT_PROMPT = "exclude_input_in_output"
OPTIONS = "sampling_parameters"
"""The input of a gRPC request that holds the options as a JSON object: those that are no scalars can be given so."""

INPUTS = (
    TensorSpec(TEXT_INPUT, DataType.BYTES, ("batch",)),
    TensorSpec("stream", DataType.BOOL, ("batch",)),
    TensorSpec(OPTIONS, DataType.BYTES, ("batch",)),
    TensorSpec(WITHOUT_PROMPT, DataType.BOOL, ("batch",)),
)
"""Of a gRPC request, one element each; all but the first may be left out."""

OUTPUT = TensorSpec(TEXT_OUTPUT, DataType.BYTES, ("batch",))

USUAL_TOKENS = 16

_TERMS = ("priority", "timeout")
FIELDS = (*WISHES, *_TERMS, TEXT_INPUT, WITHOUT_PROMPT, "id", "stream")
_REFUSED = {
    "bad_words": "use 'logit_bias' with the ids of tokens",
    "stop_words": "its name here is 'stop'",
    "return_log_probs": "the OpenAI routes tell log probabilities",
    "beam_width": "answers are sampled",
    "num_return_sequences": "there is one answer; the OpenAI routes have 'n'",
    **OTHER_NAMES,
}


@dataclass(frozen=True, slots=True)
class TritonCall:
    """As far as it can be read without the model. `terms`: priority and time limit as they came. `echo`: whether the text comes first
    in the answer. `streams` None: not said."""

    id: str
    text: str
    wishes: Wishes
    terms: Mapping[str, Any]
    echo: bool
    streams: bool | None


def flattened(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body whose options may stand beside the text or in `parameters`. Raises BadParameter for one that stands in both."""
    fields = BodyFields(body)
    fields.child("parameters")  # an object, or refused
    options = body.get("parameters") or {}
    twice = next((name for name in options if name in body), None)
    if twice is not None:
        raise fields.wrong(twice, "is given twice, by itself and in 'parameters'; give it once")
    return {**{name: value for name, value in body.items() if name != "parameters"}, **options}


def read_triton(values: Mapping[str, Any]) -> TritonCall:
    """Raises BadParameter."""
    fields = BodyFields(values)
    fields.only(FIELDS, _REFUSED)
    if not fields.text(TEXT_INPUT):
        raise fields.wrong(TEXT_INPUT, "is empty or missing; give the text that is to be continued")
    return TritonCall(
        id=fields.text("id"),
        text=fields.text(TEXT_INPUT),
        wishes=read_wishes(fields),
        terms={name: fields.value(name) for name in _TERMS if fields.has(name)},
        echo=fields.has(WITHOUT_PROMPT) and not fields.flag(WITHOUT_PROMPT),
        streams=fields.flag("stream") if fields.has("stream") else None,
    )


async def make_job(model: GeneratingModel, call: TritonCall, head: HeadTerms, arrived_at: float | None, name: str = "") -> Job:
    """`head`: what was said of time, class and client outside the body; `name`: what the client calls it there. Raises BadRequest."""
    body = read_terms(call.terms, model.classes, model.key.name)
    terms: Terms = together(head, head_priority(head, model.classes, model.key.name), body)
    ids = await text_ids(model, call.text, TEXT_INPUT)
    prompt = make_prompt(model, ids, call.wishes, TEXT_INPUT, USUAL_TOKENS)
    sampling = await held(model, call.wishes.sampling, call.wishes.schema)
    return Job([prompt], sampling, call.wishes.stops, 1, arrived_at, terms, call.id or name, head.client)
