"""A scripted model that takes text, and a tokenizer that a test can hold, for the tests of the text stage."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.backends.base import Array, TextError, Tokenizer, Tokens
from server.backends.scripted import ScriptedBackend
from server.contract.classes import Classes
from server.contract.device import this_device
from server.contract.layout import MANIFEST, PROFILE, TOKENIZER, describe_file, write_json
from server.contract.manifest import Manifest, Ragged
from server.contract.profile import Cell, Placement, Profile
from server.contract.profiles import Profiles
from server.contract.publish import publish, staging
from server.contract.tensors import DataType, TensorSpec
from server.contract.text import TextCost, TextInput
from server.contract.wants import Wants
from tests.server.runtime.scripted_world import LIMIT_S, MODEL

LONGEST = 32


@dataclass(slots=True)
class HeldTokenizer:
    """One token for each character, its code; "?" cannot be tokenised, "!" breaks the whole call. While `gate` is closed every
    call waits at it. `calls`: the texts of each call."""

    largest_id: int = 255
    calls: list[Sequence[str]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def load(self, file: Path, longest: int) -> Tokenizer:
        """Satisfies TokenizerLibrary."""
        assert file.name == TOKENIZER
        assert longest == LONGEST
        return self

    def encode(self, texts: Sequence[str]) -> list[Tokens | TextError]:
        self.calls.append(list(texts))
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(LIMIT_S)
        if any("!" in text for text in texts):
            raise RuntimeError("the tokenizer broke")
        return [TextError("cannot be read") if "?" in text else _tokens([ord(c) for c in text]) for text in texts]


def _tokens(ids: list[int]) -> Tokens:
    kept = ids[:LONGEST]
    return Tokens(kept, [1] * len(kept), [0] * len(kept), len(ids) - len(kept))


def summed(inputs: Mapping[str, Array]) -> list[Array]:
    """The fake's right answer: the sum of the ids that the mask keeps."""
    return [(inputs["ids"] * inputs["mask"]).sum(axis=1, keepdims=True).astype("f4")]


def right(text: str) -> float:
    """The same, of a text."""
    return float(sum(map(ord, text)))


def publish_text(
    repository: Path, slo_s: float = LIMIT_S, batch_s: float = 1e-3, cost: TextCost | None = None, max_rows: int = 8,
    classes: Classes | None = None,
) -> int:  # fmt: skip
    """A version that takes text of 1 to LONGEST tokens, and whose batches take `batch_s`."""
    cells = tuple(Cell(rows, n, batch_s, batch_s, batch_s, 1, 0) for n in (1, LONGEST) for rows in sorted({1, max_rows}))
    text = cost or TextCost(1e-6, 1e-8, 1e-6, 1)
    profile = Profile(this_device(ScriptedBackend.runtime), Placement(1, 1), cells, text)
    inputs = tuple(TensorSpec(name, DataType.INT64, ("batch", "length")) for name in ("ids", "mask"))
    repository.mkdir(exist_ok=True)
    with staging(repository) as folder:
        version = folder / "version"
        version.mkdir()
        (version / ScriptedBackend.model_file).write_text("answers as the test's Script says\n")
        (version / TOKENIZER).write_text("tokenizes as the test says\n")
        manifest = Manifest(
            MODEL, ScriptedBackend.name, tuple(describe_file(version / name) for name in (ScriptedBackend.model_file, TOKENIZER)),
            inputs, (TensorSpec("y", DataType.FP32, ("batch", 1)),), Ragged("length", 1, LONGEST, {}, True), max_rows, (), None,
            TextInput("text", TOKENIZER, "ids", "mask", None, 1024, "y"),
        )  # fmt: skip
        write_json(version / MANIFEST, manifest.to_json())
        write_json(version / PROFILE, Profiles((profile,)).to_json())
        return publish(version, repository, MODEL, Wants(slo_s, declared=classes))


def body_of(*texts: str, **parameters: Any) -> dict[str, Any]:
    """A V2 request of texts."""
    item = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    return {"inputs": [item], "parameters": parameters}
