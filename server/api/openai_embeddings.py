"""POST /v1/embeddings in OpenAI's form: its body, checked, and its reply. Who serves what, and when, is not decided here."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from server.api.openai_errors import BadParameter
from server.backends.base import Array
from server.contract.tensors import TensorSpec
from server.contract.text import TextInput
from server.errors import BadRequest
from server.runtime.served import ServedModel

MOST_INPUTS = 2048
"""As many as OpenAI takes."""

_FIELDS = (
    "input", "model", "encoding_format", "dimensions", "user", "truncate", "truncate_prompt_tokens", "drop_params",
)  # fmt: skip
"""`drop_params` is not looked at: it is an order to LiteLLM, which some clients send to every server."""


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """A request, as far as it can be read without its model. `inputs`: texts, or token ids of each."""

    model: str
    inputs: list[str] | list[list[int]]
    base64: bool
    dimensions: int | None
    truncate: bool


def read_call(body: bytes) -> EmbeddingCall:
    """Raises BadRequest, naming the field."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadRequest("the body must be a JSON object with 'model' and 'input'")
    fields = {
        name: value for name, value in fields.items() if value is not None
    }  # null: not given, as for the routes that generate
    unknown = next((name for name in fields if name not in _FIELDS), None)
    if unknown is not None:
        raise BadParameter(unknown, f"unknown field {unknown!r}; the fields are {', '.join(_FIELDS)}", "unknown_parameter")
    model = fields.get("model")
    if not isinstance(model, str):
        raise BadParameter("model", "'model' must be the name of a model; GET /v1/models lists them")
    form = fields.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise BadParameter("encoding_format", f"'encoding_format' must be 'float' or 'base64', found {form!r}")
    dimensions, user = fields.get("dimensions"), fields.get("user", "")
    if dimensions is not None and type(dimensions) is not int:
        raise BadParameter("dimensions", f"'dimensions' must be a number, found {dimensions!r}")
    if not isinstance(user, str):
        raise BadParameter("user", "'user' must be a string; it is not looked at")
    return EmbeddingCall(model, _inputs(fields.get("input")), form == "base64", dimensions, _truncates(fields))


def _truncates(fields: dict[str, Any]) -> bool:
    """`truncate`, or what vLLM's clients call it: `truncate_prompt_tokens` -1, as many tokens as the model takes."""
    truncate, other = fields.get("truncate"), "truncate_prompt_tokens"
    if truncate is not None and not isinstance(truncate, bool):
        raise BadParameter("truncate", "'truncate' must be true or false")
    if other not in fields:
        return bool(truncate)
    if type(fields[other]) is not int or fields[other] != -1:
        raise BadParameter(
            other, f"'{other}' must be -1, which means 'truncate': true; texts are cut to as many tokens as the model takes"
        )
    if truncate is False:
        raise BadParameter(other, f"'{other}' is -1, which means 'truncate': true, but 'truncate' is false; give one of them")
    return True


def _inputs(value: object) -> list[str] | list[list[int]]:
    """A text, texts, the ids of one text, or the ids of several."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise BadParameter("input", "'input' must be a text, a list of token ids, or a list of either, and not empty")
    if all(type(item) is int for item in value):
        value = [value]
    if len(value) > MOST_INPUTS:
        raise BadParameter("input", f"'input' has {len(value)} entries; {MOST_INPUTS} are possible: send several requests")
    if all(isinstance(item, str) for item in value):
        return value
    if all(isinstance(item, list) and all(type(token) is int for token in item) for item in value):
        return value
    raise BadParameter("input", "'input' mixes types; give texts only, or lists of token ids only")


class EmbeddingModel:
    """What is asked about one model by each request: may it be served, where is its embedding, how does a reply look."""

    def __init__(self, model: ServedModel, text: TextInput, output: TensorSpec) -> None:
        """`output`: the one that `text` names as the embedding. The model itself is not kept: it may be unloaded."""
        self.name = model.key.name
        self.published_at = model.published_at
        self._classes = model.classes
        self._max_bytes = text.max_bytes
        self._place = model.manifest.outputs.index(output)
        self.places = {self._place}
        self.size = output.wire_shape[1]
        self._max_rows = model.max_rows
        profile = model.terms.profile
        self._peak_rate = profile.peak_rate(profile.measured_lengths[0]) if profile else float("inf")

    def check(self, call: EmbeddingCall, priority: int = 0) -> None:
        """Raises BadParameter for what this model cannot do, in time for this class."""
        name, n_inputs = self.name, len(call.inputs)
        slo_s = self._classes.of(priority).slo_s
        most_inputs = max(self._max_rows, slo_s * self._peak_rate)
        if call.dimensions not in (None, self.size):
            raise BadParameter(
                "dimensions", f"embeddings of {name} have {self.size} dimensions, not {call.dimensions}; leave 'dimensions' out"
            )
        if n_inputs > most_inputs:  # however short they were, and were the server idle
            raise BadParameter(
                "input",
                f"{name} cannot answer {n_inputs} inputs within its {slo_s * 1e3:g} ms; send at most {int(most_inputs)} at a time",
                "too_many_inputs",
            )
        for place, item in enumerate(call.inputs):
            if isinstance(item, str) and (n_bytes := len(item.encode())) > self._max_bytes:
                raise BadParameter("input", f"input {place} has {n_bytes} bytes; {self._max_bytes} are possible: shorten it")

    def reply(self, call: EmbeddingCall, outputs: Sequence[Array], n_tokens: int) -> bytes:
        """The body: embeddings in the order of the inputs; base64 is of little-endian float32, as clients expect it."""
        vectors = np.ascontiguousarray(outputs[self._place], dtype="<f4")
        shown: list[Any] = [base64.b64encode(vector.tobytes()).decode() for vector in vectors] if call.base64 else [*vectors]
        content: dict[str, Any] = {
            "object": "list",
            "data": [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(shown)],
            "model": self.name,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def embedding_model(model: ServedModel) -> EmbeddingModel | None:
    """None for a model that makes no embeddings of texts."""
    text = model.manifest.text
    output = next((spec for spec in model.manifest.outputs if text and spec.name == text.embedding), None)
    return EmbeddingModel(model, text, output) if text and output else None
