"""A V2 infer body → validated arrays for one model. Every refusal names the model, the tensor and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from server.api.binary_tensors import from_bytes
from server.api.json_tensors import from_json
from server.backends.base import NUMPY_TYPES, Array
from server.contract.tensors import TensorSpec
from server.errors import BadRequest, Unsupported
from server.runtime.served import ServedModel


class OutputChoice(NamedTuple):
    """One output to return: its place in model order, and whether as raw bytes."""

    place: int
    binary: bool


@dataclass(frozen=True, slots=True)
class InferCall:
    """A decoded request. `timeout_s` is None when the client gave none."""

    id: str
    inputs: dict[str, Array]
    rows: int
    length: int
    timeout_s: float | None
    outputs: list[OutputChoice]


class _Expected:
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


class RequestDecoder:
    """Decodes for one model; what can be prepared is prepared here, once."""

    def __init__(self, model: ServedModel) -> None:
        manifest = model.manifest
        self._model = str(model.key)
        self._max_rows = model.max_rows
        axis = manifest.ragged.axis if manifest.ragged else None
        self._expected = {spec.name: _Expected(spec, axis) for spec in manifest.inputs}
        self._places = {spec.name: place for place, spec in enumerate(manifest.outputs)}
        self._ragged = manifest.ragged
        self._all_json = [OutputChoice(place, False) for place in self._places.values()]
        self._all_binary = [OutputChoice(place, True) for place in self._places.values()]

    def decode(self, body: bytes, header_length: int | None) -> InferCall:
        """`header_length`: where the JSON ends and the raw tensors begin; None when there are none.

        Raises BadRequest or Unsupported.
        """
        if header_length is None:
            header, blobs = _parse(body), memoryview(b"")
        else:
            view = memoryview(body)
            header, blobs = _parse(view[:header_length]), view[header_length:]
        inputs, rows, length = self._inputs(header.get("inputs"), blobs)
        request_id = header.get("id", "")
        if not isinstance(request_id, str):
            raise BadRequest("'id' must be a string")
        parameters = _parameters(header, "the request")
        return InferCall(request_id, inputs, rows, length, _timeout(parameters), self._outputs(header, parameters))

    def _inputs(self, items: object, blobs: memoryview) -> tuple[dict[str, Array], int, int]:
        if not isinstance(items, list) or not items:
            raise BadRequest(f"model {self._model}: 'inputs' must be a list of at least one tensor")
        inputs: dict[str, Array] = {}
        rows = length = -1
        offset = 0
        for item in items:
            expected, array, offset = self._input(item, blobs, offset)
            if expected.name in inputs:
                raise BadRequest(f"model {self._model}: input {expected.name!r} is given twice")
            rows, length = self._check_sizes(expected, array.shape, rows, length)
            inputs[expected.name] = array
        if offset != len(blobs):
            raise BadRequest(
                f"{len(blobs) - offset} bytes follow the last input; the binary_data_size of the inputs add up to {offset}"
            )
        if len(inputs) != len(self._expected):
            missing = next(name for name in self._expected if name not in inputs)
            raise BadRequest(f"model {self._model}: input {missing!r} is missing; it wants {self._wanted()}")
        return inputs, rows, max(length, 0)

    def _input(self, item: object, blobs: memoryview, offset: int) -> tuple[_Expected, Array, int]:
        if not isinstance(item, dict):
            raise BadRequest("each of 'inputs' must be an object with name, shape, datatype and data")
        name = item.get("name")
        expected = self._expected.get(name) if isinstance(name, str) else None
        if expected is None:
            raise BadRequest(f"model {self._model} has no input {name!r}; it wants {self._wanted()}")
        datatype, shape = item.get("datatype"), item.get("shape")
        if datatype != expected.datatype:
            raise BadRequest(f"model {self._model}: input {name!r} is {expected.datatype}, the request says {datatype!r}")
        if not isinstance(shape, list) or not all([type(size) is int and 0 <= size < 2**31 for size in shape]):
            raise BadRequest(f"input {name!r}: 'shape' must be a list of sizes that are not negative")
        if not expected.admits(shape):
            raise BadRequest(f"model {self._model}: input {name!r} has shape {expected.wire_shape}, the request says {shape}")
        return self._tensor(expected, item, shape, blobs, offset)

    def _tensor(
        self, expected: _Expected, item: dict[str, Any], shape: list[int], blobs: memoryview, offset: int
    ) -> tuple[_Expected, Array, int]:
        """The values, from 'data' or from the blobs; and where the next input's blob begins."""
        name = expected.name
        parameters = item.get("parameters")
        if parameters and (not isinstance(parameters, dict) or "shared_memory_region" in parameters):
            raise _bad_parameters(parameters, f"input {name!r}")
        size = parameters.get("binary_data_size") if parameters else None
        if size is None:
            if "data" not in item:
                raise BadRequest(f"input {name!r} has neither 'data' nor the parameter 'binary_data_size'")
            return expected, from_json(name, item["data"], shape, expected.dtype, expected.datatype), offset
        if "data" in item:
            raise BadRequest(f"input {name!r} has both 'data' and 'binary_data_size'; give one of them")
        if type(size) is not int or not 0 <= size <= len(blobs) - offset:
            raise BadRequest(
                f"input {name!r}: binary_data_size is {size!r}, but {len(blobs) - offset} bytes are left in the body"
            )
        return expected, from_bytes(name, blobs[offset : offset + size], shape, expected.dtype), offset + size

    def _check_sizes(self, expected: _Expected, shape: tuple[int, ...], rows: int, length: int) -> tuple[int, int]:
        if not 1 <= shape[0] <= self._max_rows:
            raise BadRequest(
                f"model {self._model}: input {expected.name!r} has {shape[0]} rows; a request may have 1 to {self._max_rows}: split it"
            )
        if rows not in (-1, shape[0]):
            raise BadRequest(f"model {self._model}: input {expected.name!r} has {shape[0]} rows, an input before it has {rows}")
        ragged = self._ragged
        if ragged is None or expected.axis is None:
            return shape[0], length
        size = shape[expected.axis]
        if not ragged.shortest <= size <= ragged.longest:
            raise BadRequest(
                f"model {self._model}: input {expected.name!r} has {size} along {ragged.axis!r}; {ragged.shortest} to "
                f"{ragged.longest} is possible"
            )
        if length not in (-1, size):
            raise BadRequest(
                f"model {self._model}: input {expected.name!r} has {size} along {ragged.axis!r}, an input before it has {length}"
            )
        return shape[0], size

    def _outputs(self, header: dict[str, Any], parameters: dict[str, Any]) -> list[OutputChoice]:
        binary = _flag(parameters, "binary_data_output", False, "the request")
        wanted = header.get("outputs")
        if not wanted:
            return self._all_binary if binary else self._all_json
        if not isinstance(wanted, list):
            raise BadRequest("'outputs' must be a list of objects with a name")
        choices = [self._output(item, binary) for item in wanted]
        if len({choice.place for choice in choices}) != len(choices):
            raise BadRequest(f"model {self._model}: an output is asked for twice")
        return choices

    def _output(self, item: object, binary: bool) -> OutputChoice:
        name = item.get("name") if isinstance(item, dict) else None
        place = self._places.get(name) if isinstance(name, str) else None
        if place is None or not isinstance(item, dict):
            raise BadRequest(f"model {self._model} has no output {name!r}; it has {', '.join(self._places)}")
        where = f"output {name!r}"
        parameters = _parameters(item, where)
        for extension in ("classification", "shared_memory_region"):
            if extension in parameters:
                raise Unsupported(f"{where}: the {extension} extension is not offered by this server")
        return OutputChoice(place, _flag(parameters, "binary_data", binary, where))

    def _wanted(self) -> str:
        return ", ".join(f"{one.name} ({one.datatype} {one.wire_shape})" for one in self._expected.values())


def _parse(text: bytes | memoryview) -> dict[str, Any]:
    try:
        header = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(header, dict):
        raise BadRequest("the body must be a JSON object with 'inputs'")
    return header


def _parameters(item: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise _bad_parameters(parameters, where)
    return parameters


def _bad_parameters(parameters: object, where: str) -> BadRequest | Unsupported:
    if isinstance(parameters, dict):
        return Unsupported(f"{where}: the shared memory extension is not offered by this server")
    return BadRequest(f"{where}: 'parameters' must be an object")


def _flag(parameters: dict[str, Any], name: str, default: bool, where: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{where}: parameter {name!r} must be true or false")
    return value


def _timeout(parameters: dict[str, Any]) -> float | None:
    """The V2 parameter is in microseconds; 0 means none. ferry counts the whole request, not just its queueing."""
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or timeout < 0:
        raise BadRequest("parameter 'timeout' must be a number of microseconds that is not negative")
    return timeout * 1e-6 if timeout else None
