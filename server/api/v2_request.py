"""A V2 infer body → validated arrays for one model. Every refusal names the model, the tensor and the remedy."""

from __future__ import annotations

from typing import Any

import orjson

from server.api.binary_tensors import from_bytes
from server.api.infer_call import ExpectedInput, InferCall, ModelInterface, OutputChoice, TextCall
from server.api.infer_head import Body
from server.api.json_tensors import from_json
from server.api.parameters import read_terms, read_truncate
from server.api.raw_request import raw_input
from server.api.shared_memory import Regions
from server.api.shared_tensors import REGION, from_slot, shared_choice
from server.api.terms import NO_TERMS
from server.backends.base import Array
from server.errors import BadRequest
from server.runtime.serving import ServingModel


class RequestDecoder:
    """Decodes for one model; what can be prepared is prepared here, once."""

    def __init__(self, model: ServingModel, regions: Regions | None = None) -> None:
        """`regions`: the shared memory of a server that offers it."""
        self._regions = regions
        self._interface = ModelInterface(model)
        self._classes = model.classes
        self._all_json = [OutputChoice(place, False) for place in range(self._interface.n_outputs)]
        self._all_binary = [OutputChoice(place, True) for place in range(self._interface.n_outputs)]

    def decode(self, body: Body, header_length: int | None) -> InferCall | TextCall:
        """`header_length`: where the JSON ends and the raw tensors begin; None when there are none, 0 when the whole body
        is the one input's data.

        Raises BadRequest, Unsupported, TooLarge, NotFound (a region) or TurnedOff.
        """
        if header_length is None:
            header, blobs = _parse(body), memoryview(b"")
        elif header_length == 0:
            return self._decode_raw(body)
        else:
            view = memoryview(body)
            header, blobs = _parse(view[:header_length]), view[header_length:]
        inputs, rows, length = self._inputs(header.get("inputs"), blobs)
        request_id = header.get("id", "")
        if not isinstance(request_id, str):
            raise BadRequest("'id' must be a string")
        parameters = _parameters(header, "the request")
        terms = read_terms(parameters, self._classes, self._interface.model) if parameters else NO_TERMS
        outputs = self._outputs(header, parameters)
        texts = self._interface.texts(inputs, outputs)
        if texts is not None:
            return TextCall(request_id, texts, read_truncate(parameters), terms, outputs)
        return InferCall(request_id, inputs, rows, length, terms, outputs)

    def _decode_raw(self, body: Body) -> InferCall:
        expected = self._interface.only_input()
        array = raw_input(self._interface.model, expected, body)
        rows, length = self._interface.check_sizes(expected, array.shape, -1, -1)
        inputs = {expected.name: array}
        self._interface.check_complete(inputs)
        return InferCall("", inputs, rows, max(length, 0), NO_TERMS, self._all_binary)

    def _inputs(self, items: object, blobs: memoryview) -> tuple[dict[str, Array], int, int]:
        if not isinstance(items, list) or not items:
            raise BadRequest(f"model {self._interface.model}: 'inputs' must be a list of at least one tensor")
        inputs: dict[str, Array] = {}
        rows = length = -1
        offset = 0
        for item in items:
            expected, array, offset = self._input(item, blobs, offset)
            if expected.name in inputs:
                raise BadRequest(f"model {self._interface.model}: input {expected.name!r} is given twice")
            rows, length = self._interface.check_sizes(expected, array.shape, rows, length)
            inputs[expected.name] = array
        if offset != len(blobs):
            raise BadRequest(
                f"{len(blobs) - offset} bytes follow the last input; the binary_data_size of the inputs add up to {offset}"
            )
        self._interface.check_complete(inputs)
        return inputs, rows, max(length, 0)

    def _input(self, item: object, blobs: memoryview, offset: int) -> tuple[ExpectedInput, Array, int]:
        if not isinstance(item, dict):
            raise BadRequest("each of 'inputs' must be an object with name, shape, datatype and data")
        expected = self._interface.input(item.get("name"), item.get("datatype"), item.get("shape"))
        return self._tensor(expected, item, item["shape"], blobs, offset)

    def _tensor(
        self, expected: ExpectedInput, item: dict[str, Any], shape: list[int], blobs: memoryview, offset: int
    ) -> tuple[ExpectedInput, Array, int]:
        """The values, from 'data', the blobs or shared memory; and where the next input's blob begins."""
        name = expected.name
        parameters = item.get("parameters")
        if parameters and not isinstance(parameters, dict):
            raise _bad_parameters(f"input {name!r}")
        size = parameters.get("binary_data_size") if parameters else None
        if size is None:
            if parameters and REGION in parameters:
                if "data" in item:
                    raise BadRequest(f"input {name!r} has both 'data' and {REGION!r}; give one of them")
                return expected, from_slot(self._regions, parameters, expected, shape), offset
            if "data" not in item:
                raise BadRequest(f"input {name!r} has neither 'data' nor the parameter 'binary_data_size'")
            return expected, from_json(name, item["data"], shape, expected.dtype, expected.datatype), offset
        if "data" in item:
            raise BadRequest(f"input {name!r} has both 'data' and 'binary_data_size'; give one of them")
        if parameters and len(parameters) > 1 and REGION in parameters:
            raise BadRequest(f"input {name!r} has both 'binary_data_size' and {REGION!r}; give one of them")
        if type(size) is not int or not 0 <= size <= len(blobs) - offset:
            raise BadRequest(
                f"input {name!r}: binary_data_size is {size!r}, but {len(blobs) - offset} bytes are left in the body"
            )
        return expected, from_bytes(name, blobs[offset : offset + size], shape, expected.dtype), offset + size

    def _outputs(self, header: dict[str, Any], parameters: dict[str, Any]) -> list[OutputChoice]:
        binary = _flag(parameters, "binary_data_output", False, "the request")
        wanted = header.get("outputs")
        if not wanted:
            return self._all_binary if binary else self._all_json
        if not isinstance(wanted, list):
            raise BadRequest("'outputs' must be a list of objects with a name")
        return self._interface.check_outputs([self._output(item, binary) for item in wanted])

    def _output(self, item: object, binary: bool) -> OutputChoice:
        if not isinstance(item, dict):
            raise BadRequest("each of 'outputs' must be an object with a name")
        name = item.get("name")
        place = self._interface.output_place(name)
        where = f"output {name!r}"
        parameters = _parameters(item, where)
        if REGION in parameters:
            return shared_choice(self._regions, parameters, place, str(name))
        classes = self._interface.classes(place, parameters["classification"]) if "classification" in parameters else 0
        return OutputChoice(place, _flag(parameters, "binary_data", binary, where), classes)


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
        raise _bad_parameters(where)
    return parameters


def _bad_parameters(where: str) -> BadRequest:
    return BadRequest(f"{where}: 'parameters' must be an object")


def _flag(parameters: dict[str, Any], name: str, default: bool, where: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{where}: parameter {name!r} must be true or false")
    return value
