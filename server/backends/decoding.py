"""The protocol that a decoder library is put behind: one loaded decoder, the cache of its slots, prefill and decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from server.backends.base import Array
from server.contract.errors import ContractError
from server.contract.generation import Generation
from server.contract.layout import VersionFiles


class Row(NamedTuple):
    """A resident in a decode step: its slot, the token that it got last, and how many tokens its slot keeps before that one."""

    slot: int
    token: int
    n_kept: int


class Decoder(Protocol):
    """One instance: a session and its own slots. Not thread-safe: one thread owns it.

    Nothing that a row gets depends on which other rows or prompts it is calculated with, if prompts are cut at multiples of 64.
    """

    @property
    def slots(self) -> int:
        """How many residents there may be at a time."""

    def prefill(self, slots: Sequence[int], prompts: Sequence[Array], start: int) -> Array:
        """Keep these tokens (int64 [tokens] each) in these slots, from position `start` on, before which the slot keeps that many.

        Several prompts at once only with start 0; they may have different lengths. Returns float32 [prompts, vocabulary]: the logits
        after each one's last token. Raises BatchError when the library fails; then the slots keep what they kept before `start`.
        """

    def score(self, slot: int, tokens: Array, start: int) -> Array:
        """Keep these tokens (int64 [tokens]) in this slot, from position `start` on, as `prefill` does; but returns float32
        [tokens, vocabulary]: the logits after each of them. Raises BatchError likewise."""

    def decode(self, rows: Sequence[Row]) -> Array:
        """Keep one token more in each row's slot. Returns float32 [rows, vocabulary] in the order given; valid until the next decode.
        What free slots and unfinished prompts keep is not changed. Raises BatchError likewise."""

    def copy(self, source: int, target: int, n_kept: int) -> None:
        """Keep in `target` the first so many tokens that `source` keeps."""

    def close(self) -> None:
        """Give the memory back."""


class DecoderBackend(Protocol):
    """Loads decoders of one kind."""

    @property
    def name(self) -> str:
        """The name that manifests use."""

    @property
    def runtime(self) -> str:
        """Library and version, part of the device fingerprint."""

    @property
    def model_file(self) -> str:
        """Name of the model file inside a version folder; its weights may lie beside it."""

    def load(self, folder: Path, generation: Generation, slots: int, threads: int) -> Decoder:
        """A decoder with so many slots, each for `generation.longest` tokens. Raises LoadError."""


def find_decoder(backends: Mapping[str, DecoderBackend], files: VersionFiles) -> DecoderBackend:
    """The one that a version which generates needs. Raises ContractError when it is not among them."""
    backend = backends.get(files.manifest.backend)
    if backend is None:
        known = ", ".join(backends) or "none"
        raise ContractError(
            f"{files.manifest.name}/{files.version}: needs backend {files.manifest.backend!r}; this ferry's for models that generate: "
            f"{known}; upgrade ferry, or publish the model again"
        )
    return backend
