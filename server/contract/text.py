"""How a version takes raw text: which file tokenises it, which inputs the tokens fill, what the tokeniser costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from server.contract.errors import ContractError
from server.contract.fields import Fields
from server.contract.tensors import DataType, TensorSpec

SCHEMA = 2
"""The schema of manifests and profiles that have a text section, which a server of schema 1 must refuse to load."""

_ID_TYPES = (DataType.INT32, DataType.INT64, DataType.UINT32, DataType.UINT64)


@dataclass(frozen=True, slots=True)
class TextInput:
    """A BYTES input called `input`, one text per row, that stands for all other inputs.

    `tokenizer` is the name of the version's file for the `tokenizers` library, special tokens and post-processing included.
    The token ids go into input `ids`; 1 for each token into `mask` and the segment of each into `types`, where the model has
    such inputs. A text may have `max_bytes` bytes of UTF-8. `embedding`: the output that is the text's embedding, if one is.
    """

    input: str
    tokenizer: str
    ids: str
    mask: str | None
    types: str | None
    max_bytes: int
    embedding: str | None = None

    @property
    def filled(self) -> tuple[str, ...]:
        """The inputs that the tokens fill."""
        return tuple(name for name in (self.ids, self.mask, self.types) if name is not None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(fields: Fields) -> TextInput:
        fields.only(TextInput.__slots__)

        def optional(key: str) -> str | None:
            return fields.text(key) if fields.has(key) else None

        return TextInput(
            fields.text("input"), fields.text("tokenizer"), fields.text("ids"), optional("mask"), optional("types"),
            fields.integer("max_bytes", 1), optional("embedding"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextCost:
    """The tokeniser's time, measured one text at a time: so much for each text and so much for each of its bytes, in seconds.

    `token_s` is the same time by token, over the measured texts, for people to read.
    """

    text_s: float
    byte_s: float
    token_s: float
    samples: int

    def predict(self, n_bytes: int) -> float:
        """Seconds for one text of so many bytes."""
        return self.text_s + self.byte_s * n_bytes

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(fields: Fields) -> TextCost:
        fields.only(TextCost.__slots__)
        text_s, byte_s, token_s = (fields.number(name) for name in ("text_s", "byte_s", "token_s"))
        if not text_s > 0:
            raise fields.wrong("text_s", "must be positive, found 0")
        return TextCost(text_s, byte_s, token_s, fields.integer("samples", 1))


def check_text(
    text: TextInput,
    files: Collection[str],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    ragged_axis: str | None,
) -> None:
    """Raises ContractError when text could not take the place of the inputs."""
    if text.tokenizer not in files:
        raise ContractError(f"text: the tokenizer {text.tokenizer!r} is not among the files; publish the version again")
    if text.input in {spec.name for spec in inputs}:
        raise ContractError(f"text: {text.input!r} is the name of a tensor input already; call the text otherwise")
    if ragged_axis is None:
        raise ContractError("text: the model has no free axis for the tokens; export it with a free sequence axis")
    if sorted(text.filled) != sorted(spec.name for spec in inputs):
        names = ", ".join(spec.name for spec in inputs)
        raise ContractError(f"text: tokens fill {', '.join(text.filled)}, the model's inputs are {names}: name all, each once")
    for spec in inputs:
        if len(spec.shape) != 2 or spec.shape[1] != ragged_axis:
            raise ContractError(f"text: input {spec.name!r} has shape {spec.wire_shape}, tokens fill [batch, {ragged_axis}]")
        if spec.datatype not in _ID_TYPES and (spec.name != text.mask or spec.datatype is DataType.BYTES):
            raise ContractError(f"text: tokens cannot fill input {spec.name!r}, which is {spec.datatype.value}")
    if text.embedding is not None:
        _check_embedding(text.embedding, outputs)


def _check_embedding(name: str, outputs: Sequence[TensorSpec]) -> None:
    spec = next((spec for spec in outputs if spec.name == name), None)
    if spec is None:
        raise ContractError(f"text: the embedding {name!r} is no output; there are {', '.join(o.name for o in outputs)}")
    if spec.datatype is not DataType.FP32 or len(spec.shape) != 2 or not isinstance(spec.shape[1], int):
        raise ContractError(
            f"text: an embedding is FP32 [batch, size], output {name!r} is {spec.datatype.value} {spec.wire_shape}"
        )
