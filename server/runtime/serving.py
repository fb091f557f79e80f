"""What the wire asks of whatever runs the models: this process's own engine, or one in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from server.contract.classes import Classes
from server.contract.manifest import Manifest
from server.core.types import ModelKey
from server.errors import Refused
from server.runtime.assemble import Inputs
from server.runtime.work import Outcome, WorkRequest

if TYPE_CHECKING:  # it knows served models, which know much more than is asked here
    from server.runtime.text_stage import TextRequest


class ServingModel(Protocol):
    """A model that takes requests. It does not change; a reload is another one."""

    @property
    def key(self) -> ModelKey: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def slo_s(self) -> float: ...
    @property
    def classes(self) -> Classes: ...
    @property
    def max_rows(self) -> int: ...
    @property
    def fastest_s(self) -> float: ...


M = TypeVar("M", bound=ServingModel)
M_co = TypeVar("M_co", bound=ServingModel, covariant=True)
M_contra = TypeVar("M_contra", bound=ServingModel, contravariant=True)


class ServingEngine(Protocol[M_contra]):
    """Takes requests for models of its own kind. Every method must be called on the event loop's thread."""

    def submit(
        self, model: M_contra, inputs: Inputs, rows: int, length: int, answer: Outcome, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0, client: int = 0,
    ) -> WorkRequest:  # fmt: skip
        """Queue one request; `answer` is told its outputs or a FerryError, later than this returns. May raise a FerryError.

        `priority`: one of the model's classes, 0 for the default. `client`: who asks, where somebody rations; 0: nobody counts it.
        """

    def submit_text(
        self, model: M_contra, text: str, truncate: bool, answer: Outcome, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0,
    ) -> TextRequest:  # fmt: skip
        """Queue one text of a model that takes text. May raise a FerryError."""

    def charge(self, model: M_contra, client: int, rows: int, length: int) -> None:
        """Count so many rows, asked for at once, against what a client may have. Raises Refused, and then none is counted."""

    def named(self, number: int, name: str) -> None:
        """Note what its client calls the request of this number, as `ferry explain` will."""

    def cancel(self, request: WorkRequest | TextRequest) -> None:
        """The client is gone. Harmless when the request has its outcome already."""

    def arrival(self, model: M_contra, arrived_at: float | None, priority: int = 0, client: int = 0) -> float:
        """When a request arrived (now, if that is not known). Raises Refused when it is too late already, or when its client may
        not have even the smallest one."""

    def late_s(self, model: M_contra, waited_s: float, priority: int = 0) -> float:
        """How late the answer to a request that has waited so long to be read would be at best; up to 0: it may be in time."""

    def crowded_out(self, model: M_contra, arrived_at: float, priority: int = 0) -> Refused | None:
        """The refusal of whatever arrived then, if so much waits that even the smallest request of this class would be late; None
        as well when that is not known."""

    def turned_away(self, model: M_contra, waited_s: float, error: Refused) -> None:
        """Note a request that was refused unread."""


class ServingModels(Protocol[M_co]):
    """The models that take requests, by name."""

    def find(self, name: str, version: str | None = None) -> M_co:
        """The served version of a model. Raises NotFound or NotReady, naming what there is."""
