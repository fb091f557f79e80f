"""What a request asks of one model, whatever protocol it came in; and the checks that every protocol shares.

Every refusal names the model, the tensor and the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from server.api.classification import UNRANKED
from server.api.shared_memory import Slot, check_apart
from server.backends.base import NUMPY_TYPES, Array
from server.contract.tensors import DataType, TensorSpec
from server.errors import BadRequest
from server.runtime.serving import ServingModel


class OutputChoice(NamedTuple):
    """One output to return: its place in model order, whether as raw bytes, how many classes instead of the tensor (0: the
    tensor), and where in shared memory (None: in the reply)."""

    place: int
    binary: bool
    classes: int = 0
    slot: Slot | None = None


TEXT_BACKENDS = ("onnxruntime",)
"""Backends whose strings are text: an element of a BYTES input must be UTF-8."""

MOST_CLASSES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class InferCall:
    """A decoded request. `timeout_s` is None when the client gave none."""

    id: str
    inputs: dict[str, Array]
    rows: int
    length: int
    timeout_s: float | None
    outputs: list[OutputChoice]


class ExpectedInput:
    """One input as the model wants it, with what each request asks about prepared."""

    __slots__ = ("axis", "datatype", "dtype", "fixed_sizes", "name", "rank", "wire_shape")

    def __init__(self, spec: TensorSpec, ragged_axis: str | None) -> None:
        self.name = spec.name
        self.datatype = spec.datatype.value
        self.dtype = NUMPY_TYPES[self.datatype]
        self.wire_shape = spec.wire_shape
        self.rank = len(spec.shape)
        self.axis = spec.axis(ragged_axis) if ragged_axis else None
        self.fixed_sizes = [(place, dim) for place, dim in enumerate(spec.shape) if isinstance(dim, int) and place > 0]

    def admits(self, shape: list[int]) -> bool:
        """Whether rank and fixed sizes are the model's; the batch and the ragged axis are checked against their limits."""
        return len(shape) == self.rank and all([shape[place] == size for place, size in self.fixed_sizes])


class ModelInterface:
    """One model's inputs and outputs, prepared for the questions that each request asks."""

    def __init__(self, model: ServingModel) -> None:
        manifest = model.manifest
        self.model = str(model.key)
        self._max_rows = model.max_rows
        axis = manifest.ragged.axis if manifest.ragged else None
        self._inputs = {spec.name: ExpectedInput(spec, axis) for spec in manifest.inputs}
        self._places = {spec.name: place for place, spec in enumerate(manifest.outputs)}
        self._datatypes = [spec.datatype.value for spec in manifest.outputs]
        is_text = manifest.backend in TEXT_BACKENDS
        self._texts = [spec.name for spec in manifest.inputs if is_text and spec.datatype is DataType.BYTES]
        self._ragged = manifest.ragged
        self.n_outputs = len(self._places)

    def input(self, name: object, datatype: object, shape: object) -> ExpectedInput:
        """The input that a tensor is meant for. Raises BadRequest when name, datatype, rank or a fixed size is not the model's."""
        expected = self._inputs.get(name) if isinstance(name, str) else None
        if expected is None:
            raise BadRequest(f"model {self.model} has no input {name!r}; it wants {self._wanted()}")
        if datatype != expected.datatype:
            raise BadRequest(f"model {self.model}: input {name!r} is {expected.datatype}, the request says {datatype!r}")
        if not isinstance(shape, list) or not all([type(size) is int and 0 <= size < 2**31 for size in shape]):
            raise BadRequest(f"input {name!r}: 'shape' must be a list of sizes that are not negative")
        if not expected.admits(shape):
            raise BadRequest(f"model {self.model}: input {name!r} has shape {expected.wire_shape}, the request says {shape}")
        return expected

    def check_sizes(self, expected: ExpectedInput, shape: tuple[int, ...], rows: int, length: int) -> tuple[int, int]:
        """Rows and length of the request so far, −1 for what is not known yet. Raises BadRequest on a contradiction."""
        if not 1 <= shape[0] <= self._max_rows:
            raise BadRequest(
                f"model {self.model}: input {expected.name!r} has {shape[0]} rows; a request may have 1 to {self._max_rows}: split it"
            )
        if rows not in (-1, shape[0]):
            raise BadRequest(f"model {self.model}: input {expected.name!r} has {shape[0]} rows, an input before it has {rows}")
        ragged = self._ragged
        if ragged is None or expected.axis is None:
            return shape[0], length
        size = shape[expected.axis]
        if not ragged.shortest <= size <= ragged.longest:
            raise BadRequest(
                f"model {self.model}: input {expected.name!r} has {size} along {ragged.axis!r}; {ragged.shortest} to "
                f"{ragged.longest} is possible"
            )
        if length not in (-1, size):
            raise BadRequest(
                f"model {self.model}: input {expected.name!r} has {size} along {ragged.axis!r}, an input before it has {length}"
            )
        return shape[0], size

    def check_complete(self, inputs: Mapping[str, Array]) -> None:
        """Raises BadRequest when an input is missing, or holds bytes where the model wants text."""
        if len(inputs) != len(self._inputs):
            missing = next(name for name in self._inputs if name not in inputs)
            raise BadRequest(f"model {self.model}: input {missing!r} is missing; it wants {self._wanted()}")
        for name in self._texts:
            self._check_text(name, inputs[name])

    def only_input(self) -> ExpectedInput:
        """The input of a model that has just one. Raises BadRequest for another."""
        if len(self._inputs) != 1:
            raise BadRequest(f"model {self.model} has {len(self._inputs)} inputs; a raw request needs a model with one")
        return next(iter(self._inputs.values()))

    def classes(self, place: int, wanted: object) -> int:
        """The parameter `classification` of an output. Raises BadRequest when it is no count, or the output cannot be ranked."""
        if type(wanted) is not int or not 1 <= wanted <= MOST_CLASSES:
            raise BadRequest(f"parameter 'classification' must be a number of classes from 1, found {wanted!r}")
        datatype = self._datatypes[place]
        if datatype in UNRANKED:
            raise BadRequest(f"model {self.model}: an output of {datatype} has no best classes; leave 'classification' out")
        return wanted

    def output_place(self, name: object) -> int:
        """Where an output is in model order. Raises BadRequest when the model has none of that name."""
        place = self._places.get(name) if isinstance(name, str) else None
        if place is None:
            raise BadRequest(f"model {self.model} has no output {name!r}; it has {', '.join(self._places)}")
        return place

    def check_outputs(self, choices: list[OutputChoice]) -> list[OutputChoice]:
        """The choices; raises BadRequest when an output is asked for twice, or two in the same place."""
        if len({choice.place for choice in choices}) != len(choices):
            raise BadRequest(f"model {self.model}: an output is asked for twice")
        if len(choices) > 1:
            check_apart([choice.slot for choice in choices if choice.slot is not None])
        return choices

    def _check_text(self, name: str, array: Array) -> None:
        try:
            for item in array.reshape(-1).tolist():
                item.decode()
        except UnicodeDecodeError:
            raise BadRequest(
                f"model {self.model}: input {name!r} holds bytes that are not UTF-8; its strings are text"
            ) from None

    def _wanted(self) -> str:
        return ", ".join(f"{one.name} ({one.datatype} {one.wire_shape})" for one in self._inputs.values())
