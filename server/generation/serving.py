"""What the wire asks of whatever generates: a model that does, and the engine that runs it (see server.runtime.serving for the others)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.contract.classes import Classes
from server.contract.generation import Generation
from server.contract.manifest import Manifest
from server.core.types import GenerateRequest, ModelKey
from server.generation.grammars import Grammars
from server.generation.options import Finish, Prompt, Sampling, TokenSink
from server.generation.texts import TextCodec


class GeneratingModel(Protocol):
    """A loaded model that generates. It does not change; a reload is another one."""

    @property
    def key(self) -> ModelKey: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def generation(self) -> Generation: ...
    @property
    def slo_s(self) -> float:
        """Until the first token."""

    @property
    def gap_s(self) -> float:
        """Between two tokens."""

    @property
    def classes(self) -> Classes: ...
    @property
    def codec(self) -> TextCodec:
        """Texts to ids and back, and the chat template."""

    @property
    def grammars(self) -> Grammars:
        """For answers that are held to a schema."""

    @property
    def published_at(self) -> int:
        """Calendar seconds."""


class GeneratingEngine(Protocol):
    """Every method must be called on the event loop's thread."""

    def generate(
        self, model: GeneratingModel, prompt: Prompt, sampling: Sampling, sink: TokenSink, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0, client: int = 0,
    ) -> GenerateRequest[object]:  # fmt: skip
        """Queue one request; `sink` is told what becomes of it, later than this returns. The prompt's ids are in the vocabulary and leave
        room for a token (the caller saw to that). `timeout_s`: until the first token, where it is shorter than the SLO. `client`: who pays
        for its tokens, 0 for nobody."""

    def charge_prompts(self, model: GeneratingModel, prompts: Sequence[Prompt], client: int) -> None:
        """Before a call's requests are queued, where it is known who asks. Raises Refused, and charges nothing, when the client may not have
        them all."""

    def stop(self, request: GenerateRequest[object], why: Finish | None = None) -> None:
        """Nobody wants more of its tokens: its sink is told nothing from now on. Harmless when it has ended. `why`: its answer is whole,
        for a text ended it; None: its client is gone."""

    def named(self, number: int, name: str) -> None:
        """Note what its client calls the request of this number, as `ferry explain` will."""


class GeneratingModels(Protocol):
    """The models that generate, by name."""

    def generates(self, name: str) -> bool:
        """Whether a model of this name serves, and generates."""

    def find_generating(self, name: str, version: str | None = None) -> GeneratingModel:
        """Raises NotFound or NotReady, naming what there is; BadRequest for a served model that does not generate."""
