"""A fake inference library for tests: takes as long as the version's profile says, and misbehaves when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from server.backends.base import Array, BatchError, LoadError, Session
from server.contract.errors import ContractError
from server.contract.layout import MANIFEST, PROFILE, read_json
from server.contract.manifest import Manifest
from server.contract.profile import Profile
from server.contract.profiles import Profiles
from server.contract.tensors import TensorSpec

Inputs = Mapping[str, Array]
Answer = Callable[[Inputs], Sequence[Array]]


class Died(Exception):
    """The instance is gone: not an error that a Session is supposed to raise."""


@dataclass(slots=True)
class Script:
    """What the fake does. Shared by all its sessions, and may be changed while they run.

    `answer` computes the outputs. `poison` names what is wrong with a batch (None: nothing). `deaths` counts the
    batches still to die on. While `gate` is closed every batch waits at it. `batches` is what ran, as inputs.
    `wait` takes the seconds that `law` predicts, or the version's profile for so many threads where it is None.
    """

    answer: Answer
    poison: Callable[[Inputs], str | None] = lambda _: None
    wait: Callable[[float], None] = time.sleep
    deaths: int = 0
    load_error: str | None = None
    law: Profile | None = None
    n_open: int = 0
    batches: list[Inputs] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def block(self) -> None:
        """Batches wait from now on, until `release`."""
        self.gate.clear()

    def release(self) -> None:
        """Let every batch go."""
        self.gate.set()


class ScriptedBackend:
    """Loads any version folder whose manifest says `backend = "scripted"`; there is no model file to read."""

    name = "scripted"
    runtime = "scripted 1"
    accelerator = None
    model_file = "model.script"

    def __init__(self, script: Script) -> None:
        self._script = script

    def load(self, folder: Path, threads: int) -> Session:
        """Raises LoadError when the script says so, or when the folder lacks manifest or profile."""
        if self._script.load_error is not None:
            raise LoadError(self._script.load_error)
        try:
            manifest = Manifest.from_json(read_json(folder / MANIFEST, MANIFEST), MANIFEST)
            profile = self._script.law or _of_threads(
                Profiles.from_json(read_json(folder / PROFILE, PROFILE), PROFILE), threads
            )
        except ContractError as error:
            raise LoadError(str(error)) from None
        axis = manifest.ragged.axis if manifest.ragged else None
        return ScriptedSession(manifest.inputs, manifest.outputs, profile, self._script, axis)


class ScriptedSession:
    """One loaded fake."""

    def __init__(
        self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], profile: Profile, script: Script,
        ragged_axis: str | None = None,
    ) -> None:  # fmt: skip
        self.inputs = inputs
        self.outputs = outputs
        self._profile = profile
        self._script = script
        self._ragged_axis = ragged_axis
        script.n_open += 1

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """Raises BatchError for a poisoned batch, Died while deaths are due."""
        script = self._script
        script.batches.append(inputs)
        script.gate.wait()
        script.wait(self._profile.predict(*self._size(inputs)))
        if script.deaths:
            script.deaths -= 1
            raise Died("as the script says")
        if (reason := script.poison(inputs)) is not None:
            raise BatchError(reason)
        return script.answer(inputs)

    def close(self) -> None:
        """Counted, so that tests can see that the memory was given back."""
        self._script.n_open -= 1

    def _size(self, inputs: Mapping[str, Array]) -> tuple[int, int]:
        spec = self.inputs[0]
        axis = spec.axis(self._ragged_axis) if self._ragged_axis else None
        shape = inputs[spec.name].shape
        return shape[0], shape[axis] if axis is not None else 0


def _of_threads(profiles: Profiles, threads: int) -> Profile:
    """The profile of a placement with so many threads, or the first."""
    return next((one for one in profiles.profiles if one.placement.threads == threads), profiles.profiles[0])
