"""The two protocols that every inference library is put behind, and the errors that say whose fault a failure is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from server.contract.accelerator import Accelerator
from server.contract.errors import ContractError
from server.contract.layout import VersionFiles
from server.contract.manifest import Manifest
from server.contract.tensors import DataType, TensorSpec

if TYPE_CHECKING:  # which builds on this module
    from server.backends.decoding import DecoderBackend

Array = npt.NDArray[Any]

NUMPY_TYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
    "BYTES": np.dtype(np.object_),
}
"""The array type behind each V2 datatype. BF16 travels as its 16 raw bits, BYTES as objects of type bytes."""


ONNX_BACKENDS = ("onnxruntime", "openvino-bf16", "openvino-f32", "onnxruntime-cuda-f32", "onnxruntime-cuda-tf32")
"""Backends that load .onnx files. Strings in those are text: an element of a BYTES input must be UTF-8."""


def pad_element(datatype: DataType, pad: int | float) -> int | float | bytes:
    """The array element that a manifest's pad value stands for: numbers themselves, the empty string for BYTES."""
    return b"" if datatype is DataType.BYTES else pad


class BatchError(Exception):
    """The library could not run this batch; the session is still good."""


class LoadError(Exception):
    """The model file cannot be loaded; the message is the library's own reason."""


def tensor_spec(name: str, datatype: DataType, shape: Sequence[int | str | None]) -> TensorSpec:
    """A tensor as a model file declares it; axes without a name get one.

    Raises LoadError for scalars, which have no batch axis, and for sizes that nothing can have.
    """
    if not shape:
        raise LoadError(f"tensor {name!r} is a scalar: every input and output needs a first (batch) axis")
    if any(isinstance(dim, int) and dim < 1 for dim in shape):
        raise LoadError(f"tensor {name!r} has shape {list(shape)}: fixed sizes must be positive")
    return TensorSpec(name, datatype, tuple(dim or f"{name}_axis{n}" for n, dim in enumerate(shape)))


class Session(Protocol):
    """One loaded model. `run` may be called from several threads at a time."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Tensors as the file declares them, batch axis first."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Likewise for what `run` returns, in that order."""

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """One batch: arrays of shape [rows, …] by input name → arrays [rows, …] in output order.

        Raises BatchError when the library refuses or fails; its message names the reason.
        """

    def close(self) -> None:
        """Give the memory back. `run` must not be called afterwards."""


class Backend(Protocol):
    """Loads model files of one kind."""

    @property
    def name(self) -> str:
        """The name that manifests use."""

    @property
    def runtime(self) -> str:
        """Library and version ("onnxruntime 1.31.1"): part of the device fingerprint."""

    @property
    def accelerator(self) -> Accelerator | None:
        """The card on which it calculates, likewise; None: the processor does."""

    @property
    def model_file(self) -> str:
        """Name of the model file inside a version folder."""

    def load(self, folder: Path, threads: int) -> Session:
        """Load `folder/model_file` for `threads` threads per call. Raises LoadError."""


class CardMemory(NamedTuple):
    """Bytes of a card's memory: what nobody has, and all of it."""

    free_bytes: int
    total_bytes: int


@runtime_checkable
class OnCard(Protocol):
    """What a backend whose `accelerator` is a card can tell besides. Not part of Backend: most have none."""

    def card_memory(self) -> CardMemory:
        """Now, as all processes on the card leave it. Raises LoadError when the card cannot be asked."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The backend that serves a version, and the version as that one sees it. `instead`: why it is the fallback; None: it is not."""

    files: VersionFiles
    backend: Backend
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class Backends:
    """What model files this process can run: backends by name, and for known ones that cannot be used here, what to do about
    it. `decoders`: those for models that generate."""

    usable: Mapping[str, Backend]
    missing: Mapping[str, str] = field(default_factory=dict)
    decoders: Mapping[str, DecoderBackend] = field(default_factory=dict)

    def pick(self, files: VersionFiles) -> Picked:
        """The version's own backend, or else its fallback. Raises ContractError when neither can be used here."""
        manifest = files.manifest
        if manifest.generation is not None:
            raise ContractError(
                f"{manifest.name}/{files.version} generates text: it does not take and give tensors; a server runs it"
            )
        reason = self.why_not(manifest)
        if reason is None:
            return Picked(files, self.usable[manifest.backend])
        if manifest.fallback is None:
            raise ContractError(f"{manifest.name}/{files.version}: needs backend {manifest.backend!r}: {reason}")
        if manifest.fallback not in self.usable:
            raise ContractError(
                f"{manifest.name}/{files.version}: needs backend {manifest.backend!r}: {reason}; nor is there its fallback "
                f"{manifest.fallback!r}: {self._why_missing(manifest.fallback)}"
            )
        return Picked(files.by_fallback, self.usable[manifest.fallback], reason)

    def why_not(self, manifest: Manifest) -> str | None:
        """Why a version's own backend cannot serve it here; None: it can."""
        backend = self.usable.get(manifest.backend)
        if backend is None:
            return self._why_missing(manifest.backend)
        return manifest.built_for.mismatch(backend.accelerator, backend.runtime) if manifest.built_for else None

    def _why_missing(self, name: str) -> str:
        known = ", ".join(self.usable)
        return self.missing.get(name, f"this ferry has {known}; upgrade ferry, or publish the model again")


class Tokens(NamedTuple):
    """One text, tokenised, special tokens included: ids, 1 for each token, and segments, all of one length.

    `n_dropped`: tokens that were cut off because the text has more than the tokenizer was loaded for.
    """

    ids: Sequence[int]
    mask: Sequence[int]
    types: Sequence[int]
    n_dropped: int


class TextError(Exception):
    """This text cannot be tokenised; the message names the reason. Other texts are not concerned."""


class Tokenizer(Protocol):
    """One loaded tokenizer. `encode` is called from one thread at a time."""

    @property
    def largest_id(self) -> int:
        """No text gets a greater id."""

    def encode(self, texts: Sequence[str]) -> list[Tokens | TextError]:
        """All texts in one call, which lets go of the interpreter lock; one outcome for each, in order. Does not raise."""


class TokenizerLibrary(Protocol):
    """Loads tokenizer files."""

    def load(self, file: Path, longest: int) -> Tokenizer:
        """A tokenizer that cuts texts at `longest` tokens. Raises LoadError when the file is not one, or the library is missing."""
