"""A ModelInferRequest → validated arrays for one model. Every refusal names the model, the tensor and the remedy."""

from __future__ import annotations

from collections.abc import Mapping

from server.api.binary_tensors import from_bytes
from server.api.infer_call import ExpectedInput, InferCall, ModelInterface, OutputChoice, TextCall
from server.api.parameters import read_terms, read_truncate
from server.api.shared_memory import Regions
from server.api.shared_tensors import REGION, from_slot, shared_choice
from server.api.terms import NO_TERMS
from server.backends.base import Array
from server.errors import BadRequest
from server.grpc_api.messages import InferParameter, ModelInferRequest
from server.grpc_api.typed_contents import from_contents
from server.runtime.serving import ServingModel

FINAL_FLAG = "triton_enable_empty_final_response"
"""The one reserved parameter that has a meaning: mark the last reply as the last."""


class RequestDecoder:
    """Decodes for one model; what can be prepared is prepared here, once."""

    def __init__(self, model: ServingModel, regions: Regions | None = None) -> None:
        """`regions`: the shared memory of a server that offers it."""
        self._regions = regions
        self._interface = ModelInterface(model)
        self._classes = model.classes
        self._all = [OutputChoice(place, True) for place in range(self._interface.n_outputs)]

    def decode(self, request: ModelInferRequest) -> InferCall | TextCall:
        """Raises BadRequest, Unsupported, TooLarge, NotFound (a region) or TurnedOff."""
        inputs, rows, length = self._inputs(request)
        parameters = plain_parameters(request.parameters) if request.parameters else {}
        terms = read_terms(parameters, self._classes, self._interface.model) if parameters else NO_TERMS
        outputs = self._outputs(request)
        texts = self._interface.texts(inputs, outputs)
        if texts is not None:
            return TextCall(request.id, texts, read_truncate(parameters), terms, outputs)
        return InferCall(request.id, inputs, rows, length, terms, outputs)

    def _inputs(self, request: ModelInferRequest) -> tuple[dict[str, Array], int, int]:
        interface = self._interface
        tensors, blobs = request.inputs, request.raw_input_contents
        if blobs and len(blobs) != len(tensors):
            self._check_count(request)
        inputs: dict[str, Array] = {}
        rows = length = -1
        n_sent = 0
        for tensor in tensors:
            shape = list(tensor.shape)
            expected = interface.input(tensor.name, tensor.datatype, shape)
            if expected.name in inputs:
                raise BadRequest(f"model {interface.model}: input {expected.name!r} is given twice")
            if tensor.parameters and REGION in tensor.parameters:
                array = self._from_slot(expected, tensor, shape)
            else:
                array = read_array(expected, tensor, shape, blobs[n_sent] if blobs else None)
                n_sent += 1
            rows, length = interface.check_sizes(expected, array.shape, rows, length)
            inputs[expected.name] = array
        if n_sent < len(blobs):
            self._check_count(request)
        interface.check_complete(inputs)
        return inputs, rows, max(length, 0)

    def _from_slot(
        self, expected: ExpectedInput, tensor: ModelInferRequest.InferInputTensor, shape: list[int]
    ) -> Array:  # fmt: skip
        if tensor.HasField("contents"):
            raise BadRequest(f"input {expected.name!r} has both {REGION!r} and typed contents; give one of them")
        return from_slot(self._regions, _values(tensor.parameters), expected, shape)

    def _check_count(self, request: ModelInferRequest) -> None:
        """Raises BadRequest unless there is a raw entry for each input that is not in shared memory."""
        n_wanted = sum(REGION not in tensor.parameters for tensor in request.inputs)
        n_sent = len(request.raw_input_contents)
        if n_sent != n_wanted:
            raise BadRequest(
                f"model {self._interface.model}: raw_input_contents has {n_sent} entries for {n_wanted} inputs; send one for each "
                "that is not in shared memory, or none and typed contents"
            )

    def _outputs(self, request: ModelInferRequest) -> list[OutputChoice]:
        if not request.outputs:
            return self._all
        return self._interface.check_outputs([self._output(wanted) for wanted in request.outputs])

    def _output(self, wanted: ModelInferRequest.InferRequestedOutputTensor) -> OutputChoice:
        place = self._interface.output_place(wanted.name)
        if not wanted.parameters:
            return OutputChoice(place, True)
        if REGION in wanted.parameters:
            return shared_choice(self._regions, _values(wanted.parameters), place, wanted.name)
        if "classification" not in wanted.parameters:
            return OutputChoice(place, True)
        return OutputChoice(place, True, self._interface.classes(place, _value(wanted.parameters["classification"])))


def read_array(
    expected: ExpectedInput, tensor: ModelInferRequest.InferInputTensor, shape: list[int], blob: bytes | None
) -> Array:
    """The values of one input; `blob` None: they are typed."""
    if blob is None:
        if not tensor.HasField("contents"):
            raise BadRequest(f"input {expected.name!r} has neither raw_input_contents nor typed contents")
        return from_contents(expected, tensor.contents, shape)
    if tensor.HasField("contents"):
        raise BadRequest(f"input {expected.name!r} has both raw_input_contents and typed contents; give one of them")
    return from_bytes(expected.name, memoryview(blob), shape, expected.dtype)


def wants_final_flag(request: ModelInferRequest) -> bool:
    """Whether the client asked to be told which reply is the last."""
    return FINAL_FLAG in request.parameters and _value(request.parameters[FINAL_FLAG]) is True


def plain_parameters(parameters: Mapping[str, InferParameter]) -> dict[str, object]:
    """The parameters as Python values, less the one that is not the model's affair. Raises BadRequest."""
    plain = _values(parameters)
    if not isinstance(plain.pop(FINAL_FLAG, False), bool):
        raise BadRequest(f"parameter {FINAL_FLAG!r} must be a bool_param")
    return plain


def _value(parameter: InferParameter) -> object:
    """None when none of the kinds is filled."""
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _values(parameters: Mapping[str, InferParameter]) -> dict[str, object]:
    return {name: _value(parameter) for name, parameter in parameters.items()}
