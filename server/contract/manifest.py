"""The manifest of one model version: what the files are, what the tensors are, which checks passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.contract.accelerator import BuiltFor
from server.contract.errors import ContractError
from server.contract.fields import Fields, check_schema
from server.contract.generation import SCHEMA as GENERATION_SCHEMA
from server.contract.generation import Generation, check_generation
from server.contract.tensors import TensorSpec
from server.contract.text import SCHEMA as TEXT_SCHEMA
from server.contract.text import TextInput, check_text

SCHEMA = 1
FALLBACK_SCHEMA = 3
"""Of manifests that name a fallback, which older servers could not act on."""

BUILT_SCHEMA = 5
"""Of manifests whose model file was built for one card."""

ANSWERS = "answers"
"""Name of the check of a version that calculates coarsely by design (int8, bf16): how close its answers are to the original's."""

_SHA256_HEX_LENGTH = 64


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the version folder: `path` is a bare name, `bytes` its size."""

    path: str
    sha256: str
    bytes: int

    @staticmethod
    def from_json(fields: Fields) -> FileEntry:
        fields.only(FileEntry.__slots__)
        path, sha256 = fields.text("path"), fields.text("sha256")
        if path in (".", "..") or "/" in path or "\\" in path:
            raise fields.wrong("path", f"must be a bare file name inside the version folder, found {path!r}")
        if len(sha256) != _SHA256_HEX_LENGTH or set(sha256) - set("0123456789abcdef"):
            raise fields.wrong("sha256", "must be 64 hexadecimal digits")
        return FileEntry(path, sha256, fields.integer("bytes"))


@dataclass(frozen=True, slots=True)
class Ragged:
    """The one axis whose size differs between requests, and how requests of different sizes share a batch.

    `pads` says what fills each input that has the axis. `mixes` is True only when it was *measured* that padding
    does not change an answer; otherwise only requests of equal length share a batch.
    """

    axis: str
    shortest: int
    longest: int
    pads: Mapping[str, int | float]
    mixes: bool

    @staticmethod
    def from_json(fields: Fields) -> Ragged:
        fields.only(Ragged.__slots__)
        shortest, longest = fields.integer("shortest", 1), fields.integer("longest", 1)
        if shortest > longest:
            raise fields.wrong("shortest", f"must not be above longest, found {shortest} > {longest}")
        pads = fields.mapping("pads")
        bad = next((name for name, pad in pads.items() if isinstance(pad, bool) or not isinstance(pad, (int, float))), None)
        if bad is not None:
            raise fields.wrong("pads", f"must map input names to numbers, found {pads[bad]!r} for {bad!r}")
        return Ragged(fields.text("axis"), shortest, longest, pads, fields.flag("mixes"))


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict of one gate, with the figure that decided it in words."""

    name: str
    passed: bool
    detail: str

    @staticmethod
    def from_json(fields: Fields) -> Check:
        fields.only(Check.__slots__)
        return Check(fields.text("name"), fields.flag("passed"), fields.text("detail"))


@dataclass(frozen=True, slots=True)
class Manifest:
    """All a server must know before it loads a version. `max_rows` is the largest batch that was tried and passed.

    `fallback`: the backend that serves the same model file where `backend` cannot be used; it has a profile of its own. The file's
    schema is the lowest one that has all that is said: servers that do not know the rest refuse it, all others read it. `generation`:
    how it generates, in which case inputs and outputs are the texts that go in and come out. `built_for`: the card and library that
    the backend's model file is for, where it runs on no other; the fallback's file lies beside it.
    """

    name: str
    backend: str
    files: tuple[FileEntry, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ragged: Ragged | None
    max_rows: int
    checks: tuple[Check, ...]
    lineage_sha256: str | None
    text: TextInput | None = None
    fallback: str | None = None
    generation: Generation | None = None
    built_for: BuiltFor | None = None

    def __post_init__(self) -> None:
        """Refuse tensors and files that cannot be served together. Raises ContractError."""
        _check_names("inputs", [spec.name for spec in self.inputs])
        _check_names("outputs", [spec.name for spec in self.outputs])
        _check_names("files", [entry.path for entry in self.files])
        free = {dim for spec in self.inputs for dim in spec.shape[1:] if isinstance(dim, str)}
        axis = self.ragged.axis if self.ragged else None
        if free - {axis}:
            raise ContractError(
                f"the inputs leave axis {min(free - {axis})!r} free; one ragged axis besides the batch is supported: "
                "fix the others at export"
            )
        if self.ragged and axis not in free:
            raise ContractError(f"ragged: no input has the axis {axis!r}; publish the version again")
        stray = set(self.ragged.pads) - {spec.name for spec in self.inputs} if self.ragged else set()
        if stray:
            raise ContractError(f"ragged: pads names {min(stray)!r}, which is no input; publish the version again")
        pads = self.ragged.pads if self.ragged else {}
        for spec in self.inputs:
            pad = pads.get(spec.name, 0)
            if not spec.datatype.holds(pad):
                raise ContractError(
                    f"ragged: {pad!r} cannot pad {spec.name!r}, which is {spec.datatype.value}; give another pad"
                )
        if self.text:
            check_text(self.text, [entry.path for entry in self.files], self.inputs, self.outputs, axis)
        if self.generation:
            check_generation(self.generation, [entry.path for entry in self.files])
        if self.fallback == self.backend:
            raise ContractError(f"fallback: {self.fallback!r} is the backend itself; publish the version again")

    @property
    def is_coarse(self) -> bool:
        """Whether it calculates coarsely by design, so that rounding depends on what else is in a batch."""
        return any(check.name == ANSWERS for check in self.checks)

    @property
    def schema(self) -> int:
        """The lowest that can say all of it."""
        if self.built_for:
            return BUILT_SCHEMA
        if self.generation:
            return GENERATION_SCHEMA
        if self.fallback:
            return FALLBACK_SCHEMA
        return TEXT_SCHEMA if self.text else SCHEMA

    def to_json(self) -> dict[str, Any]:
        ragged = self.ragged
        made: dict[str, Any] = {
            "schema": self.schema,
            "name": self.name,
            "backend": self.backend,
            "files": [{"path": f.path, "sha256": f.sha256, "bytes": f.bytes} for f in self.files],
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "ragged": None if ragged is None else {
                "axis": ragged.axis, "shortest": ragged.shortest, "longest": ragged.longest,
                "pads": dict(ragged.pads), "mixes": ragged.mixes,
            },
            "max_rows": self.max_rows,
            "checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks],
            "lineage_sha256": self.lineage_sha256,
        }  # fmt: skip
        if self.text:
            made["text"] = self.text.to_json()
        if self.fallback:
            made["fallback"] = self.fallback
        if self.generation:
            made["generation"] = self.generation.to_json()
        if self.built_for:
            made["built_for"] = self.built_for.to_json()
        return made

    @staticmethod
    def from_json(data: object, where: str) -> Manifest:
        """Raises ContractError for an unknown schema, a missing or unknown field, or tensors that cannot be served."""
        fields = Fields(data, where)
        schema = check_schema(fields, BUILT_SCHEMA)
        fields.only(("schema", *(name for name in Manifest.__slots__ if schema >= _SINCE.get(name, SCHEMA))))
        name, backend = fields.text("name"), fields.text("backend")
        files = tuple(FileEntry.from_json(entry) for entry in fields.children("files"))
        inputs = tuple(TensorSpec.from_json(entry) for entry in fields.children("inputs"))
        outputs = tuple(TensorSpec.from_json(entry) for entry in fields.children("outputs"))
        ragged = Ragged.from_json(fields.child("ragged")) if fields.has("ragged") else None
        max_rows = fields.integer("max_rows", 1)
        checks = tuple(Check.from_json(entry) for entry in fields.children("checks"))
        lineage = fields.text("lineage_sha256") if fields.has("lineage_sha256") else None
        text = TextInput.from_json(fields.child("text")) if fields.has("text") else None
        fallback = fields.text("fallback") if fields.has("fallback") else None
        built_for = BuiltFor.from_json(fields.child("built_for")) if fields.has("built_for") else None
        try:
            generation = Generation.from_json(fields.child("generation")) if fields.has("generation") else None
            return Manifest(
                name, backend, files, inputs, outputs, ragged, max_rows, checks, lineage, text, fallback, generation, built_for
            )
        except ContractError as error:
            raise error if str(error).startswith(where) else ContractError(f"{where}: {error}") from None


_SINCE = {"text": TEXT_SCHEMA, "fallback": FALLBACK_SCHEMA, "generation": GENERATION_SCHEMA, "built_for": BUILT_SCHEMA}
"""The schema in which a field first appeared, where that is not the first."""


def _check_names(what: str, names: Sequence[str]) -> None:
    if not names or len(set(names)) != len(names):
        raise ContractError(f"{what} must be a non-empty list of distinct names, found {names}; publish the version again")
