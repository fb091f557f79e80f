"""How a version generates text token by token: its tokenizer, its chat template, what ends an answer, the shape of what it keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from server.contract.errors import ContractError
from server.contract.fields import Fields
from server.contract.tensors import DataType

SCHEMA = 4
"""The schema of manifests that have a generation section."""

_KEPT_TYPES = (DataType.FP32, DataType.FP16, DataType.BF16)


@dataclass(frozen=True, slots=True)
class KeptShape:
    """What is kept of each token: keys and values of `layers` layers, `heads` heads each of `head_size` numbers of `datatype`."""

    layers: int
    heads: int
    head_size: int
    datatype: DataType

    @staticmethod
    def from_json(fields: Fields) -> KeptShape:
        fields.only(KeptShape.__slots__)
        datatype = fields.text("datatype")
        if datatype not in {one.value for one in _KEPT_TYPES}:
            raise fields.wrong("datatype", f"must be one of {', '.join(one.value for one in _KEPT_TYPES)}, found {datatype!r}")
        layers, heads, head_size = (fields.integer(name, 1) for name in ("layers", "heads", "head_size"))
        return KeptShape(layers, heads, head_size, DataType(datatype))


@dataclass(frozen=True, slots=True)
class Generation:
    """A decoder, whose requests stay for many steps.

    `tokenizer`: the version's file for the `tokenizers` library. `template`: its chat template (Jinja), None where it has none.
    `specials`: texts of special tokens that the template may name ("bos_token"). `ends`: ids that end an answer. `vocabulary`: how many
    ids there are. `longest`: most tokens of one request, prompt and answer together. `kept`: the cache's shape.
    """

    tokenizer: str
    template: str | None
    specials: Mapping[str, str]
    ends: tuple[int, ...]
    vocabulary: int
    longest: int
    kept: KeptShape

    def __post_init__(self) -> None:
        """Raises ContractError for ids outside the vocabulary."""
        bad = next((end for end in self.ends if not 0 <= end < self.vocabulary), None)
        if bad is not None:
            raise ContractError(
                f"generation: id {bad} ends an answer, but ids go from 0 to {self.vocabulary - 1}; publish again"
            )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ends": list(self.ends), "kept": {**asdict(self.kept), "datatype": self.kept.datatype.value}}

    @staticmethod
    def from_json(fields: Fields) -> Generation:
        fields.only(Generation.__slots__)
        specials, ends = fields.mapping("specials"), fields.items("ends")
        if not all(isinstance(text, str) for text in specials.values()):
            raise fields.wrong("specials", "must map names to texts")
        if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
            raise fields.wrong("ends", f"must be token ids, found {ends}")
        vocabulary, longest, kept = fields.integer("vocabulary", 1), fields.integer("longest", 2), fields.child("kept")
        template = fields.text("template") if fields.has("template") else None
        return Generation(
            fields.text("tokenizer"), template, specials, tuple(ends), vocabulary, longest, KeptShape.from_json(kept)
        )


def check_generation(generation: Generation, files: Collection[str]) -> None:
    """Raises ContractError when a file that it names is not the version's."""
    for name in (generation.tokenizer, generation.template):
        if name is not None and name not in files:
            raise ContractError(f"generation: {name!r} is not among the files; publish the version again")
