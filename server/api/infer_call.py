"""What a request asks of one model, whatever protocol it came in; and the checks that every protocol shares.

Every refusal names the model, the tensor and the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from server.api.classification import UNRANKED
from server.api.shared_memory import Slot, check_apart
from server.api.terms import Terms
from server.backends.base import NUMPY_TYPES, ONNX_BACKENDS, Array
from server.contract.tensors import DataType, TensorSpec
from server.contract.text import TextInput
from server.errors import BadRequest
from server.runtime.gathering import Gathering, submit_texts
from server.runtime.serving import ServingEngine, ServingModel
from server.runtime.work import Outcome


class OutputChoice(NamedTuple):
    """One output to return: its place in model order, whether as raw bytes, how many classes instead of the tensor (0: the
    tensor), and where in shared memory (None: in the reply)."""

    place: int
    binary: bool
    classes: int = 0
    slot: Slot | None = None


MOST_CLASSES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class InferCall:
    """A decoded request. `terms`: those of the body."""

    id: str
    inputs: dict[str, Array]
    rows: int
    length: int
    terms: Terms
    outputs: list[OutputChoice]


@dataclass(frozen=True, slots=True)
class TextCall:
    """A decoded request that gives texts instead of tensors. `truncate`: texts with too many tokens are to be cut."""

    id: str
    texts: list[str]
    truncate: bool
    terms: Terms
    outputs: list[OutputChoice]


def submit_text_call(
    engine: ServingEngine[Any],
    model: ServingModel,
    call: TextCall,
    answer: Outcome,
    terms: Terms,
    arrived_at: float | None = None,
    client: int = 0,
) -> Gathering:
    """Queue the texts of a call; `answer` will have its outputs. Raises Refused when `client` may not have so much."""
    wanted = {choice.place for choice in call.outputs}
    texts = submit_texts(
        engine, model, call.texts, call.truncate, wanted, answer, terms.timeout_s, arrived_at, terms.priority, client
    )
    if call.id:
        texts.name(call.id)
    return texts


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


class ExpectedText(ExpectedInput):
    """The input of raw texts, one per row: BYTES [rows], or [rows, 1] as some clients have it."""

    __slots__ = ()

    def admits(self, shape: list[int]) -> bool:
        return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


class ModelInterface:
    """One model's inputs and outputs, prepared for the questions that each request asks."""

    def __init__(self, model: ServingModel) -> None:
        manifest = model.manifest
        self.model = str(model.key)
        self._max_rows = model.max_rows
        axis = manifest.ragged.axis if manifest.ragged else None
        self._inputs = {spec.name: ExpectedInput(spec, axis) for spec in manifest.inputs}
        self._text = manifest.text
        self._known = dict(self._inputs)
        if manifest.text is not None:
            self._known[manifest.text.input] = ExpectedText(text_spec(manifest.text), axis)
        self._per_token = {
            place for place, spec in enumerate(manifest.outputs) if axis is not None and spec.axis(axis) is not None
        }
        self._places = {spec.name: place for place, spec in enumerate(manifest.outputs)}
        self._datatypes = [spec.datatype.value for spec in manifest.outputs]
        is_text = manifest.backend in ONNX_BACKENDS
        self._texts = [spec.name for spec in manifest.inputs if is_text and spec.datatype is DataType.BYTES]
        self._ragged = manifest.ragged
        self.n_outputs = len(self._places)

    def input(self, name: object, datatype: object, shape: object) -> ExpectedInput:
        """The input that a tensor is meant for. Raises BadRequest when name, datatype, rank or a fixed size is not the model's."""
        expected = self._known.get(name) if isinstance(name, str) else None
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
        if self._text is not None and self._text.input in inputs:
            if len(inputs) > 1:
                raise BadRequest(f"model {self.model}: give either {self._text.input!r} or tensors, not both")
            return
        if len(inputs) != len(self._inputs):
            missing = next(name for name in self._inputs if name not in inputs)
            raise BadRequest(f"model {self.model}: input {missing!r} is missing; it wants {self._wanted()}")
        for name in self._texts:
            self._check_text(name, inputs[name])

    def texts(self, inputs: Mapping[str, Array], outputs: list[OutputChoice]) -> list[str] | None:
        """The texts of a request that gives texts, None for one that gives tensors. Raises BadRequest for what is not text, is
        too long, or asks for outputs that cannot be put together."""
        if self._text is None or self._text.input not in inputs:
            return None
        array = inputs[self._text.input]
        self._check_text(self._text.input, array)
        texts = [item.decode() for item in array.reshape(-1).tolist()]
        for row, item in enumerate(array.reshape(-1).tolist()):
            if len(item) > self._text.max_bytes:
                raise BadRequest(
                    f"model {self.model}: the text of row {row} has {len(item)} bytes; {self._text.max_bytes} are possible: shorten it"
                )
        if len(texts) > 1 and any(choice.place in self._per_token for choice in outputs):
            raise BadRequest(
                f"model {self.model}: an output with values for each token differs in size between texts; send one text per request"
            )
        return texts

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
        tensors = ", ".join(f"{one.name} ({one.datatype} {one.wire_shape})" for one in self._inputs.values())
        return tensors if self._text is None else f"{tensors}; or instead {self._text.input} (BYTES [-1])"


def text_spec(text: TextInput) -> TensorSpec:
    """The input of raw texts as metadata would give it."""
    return TensorSpec(text.input, DataType.BYTES, ("batch",))
