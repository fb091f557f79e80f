"""A request that generates in Triton's words, whichever way it came: read, checked, and made a job for one model."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from server.api.generation.fields import BodyFields, read_object, shown
from server.api.generation.prompts import text_ids
from server.api.generation.response_format import held
from server.api.generation.running import Job
from server.api.generation.triton_words import in_our_words
from server.api.generation.wishes import OTHER_NAMES, WISHES, Wishes, make_prompt, read_wishes
from server.api.openai_errors import BadParameter
from server.api.parameters import read_terms
from server.api.terms import HeadTerms, Terms, head_priority, together
from server.contract.tensors import DataType, TensorSpec
from server.errors import BadRequest
from server.generation.serving import GeneratingModel

TEXT_INPUT = "text_input"
TEXT_OUTPUT = "text_output"
WITHOUT_PROMPT = "exclude_input_in_output"
OPTIONS = "sampling_parameters"
"""The input that holds the options as the text of a JSON object, as Triton's vLLM backend has it. Over gRPC, where parameters are
scalars, the others can be given so."""

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
"""In our words; what Triton's clients may say besides is in `triton_words.py`."""

_SAID_ONCE = (TEXT_INPUT, WITHOUT_PROMPT, "id", "stream")
"""Inputs, not options: two of one kind are a mistake."""


@dataclass(frozen=True, slots=True)
class TritonCall:
    """As far as it can be read without the model. `terms`: priority and time limit as they came. `excludes`: whether the text is to be
    left out of the answer. None in it and in `streams`: not said."""

    id: str
    text: str
    wishes: Wishes
    terms: Mapping[str, Any]
    excludes: bool | None
    streams: bool | None

    def before(self, streams: bool) -> str:
        """What comes before the completion: by default the text, in a stream nothing. So Triton's backends do it (vLLM's
        `src/utils/request.py`), and their clients cut it off. Raises BadParameter."""
        if not streams:
            return "" if self.excludes else self.text
        if self.excludes is False:
            raise BadParameter(
                WITHOUT_PROMPT, f"'{WITHOUT_PROMPT}' cannot be false in a stream: its pieces are new text; leave it out"
            )
        return ""


def flattened(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body whose options may stand beside the text, in `parameters`, or in the text of `sampling_parameters`; in our words.

    What stands in the last wins: clients of Triton's vLLM backend say options there and as parameters, and it reads them there.
    Raises BadParameter for one that stands twice otherwise."""
    fields = BodyFields(body)
    fields.child("parameters")  # an object, or refused
    options = body.get("parameters") or {}
    _check_once(fields, options, body, "'parameters'")
    rest = {**{name: value for name, value in body.items() if name != "parameters"}, **options}
    given = in_our_words(rest)
    first = in_our_words(_read_options(fields, given.pop(OPTIONS, None)))
    _check_once(fields, first, [name for name in given if name in _SAID_ONCE], f"'{OPTIONS}'")
    return given | first


def _check_once(fields: BodyFields, options: Iterable[str], others: Container[str], where: str) -> None:
    twice = next((name for name in options if name in others), None)
    if twice is not None:
        raise fields.wrong(twice, f"is given twice, by itself and in {where}; give it once")


def _read_options(fields: BodyFields, text: object) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        if isinstance(text, str):
            return read_object(text.encode())
    except BadRequest:
        pass
    raise fields.wrong(OPTIONS, f"must be a JSON object of options, as a text, found {shown(text)}")


def read_triton(values: Mapping[str, Any]) -> TritonCall:
    """Raises BadParameter."""
    fields = BodyFields(values)
    fields.only(FIELDS, OTHER_NAMES)
    if not fields.text(TEXT_INPUT):
        raise fields.wrong(TEXT_INPUT, "is empty or missing; give the text that is to be continued")
    return TritonCall(
        id=fields.text("id"),
        text=fields.text(TEXT_INPUT),
        wishes=read_wishes(fields),
        terms={name: fields.value(name) for name in _TERMS if fields.has(name)},
        excludes=fields.flag(WITHOUT_PROMPT) if fields.has(WITHOUT_PROMPT) else None,
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
