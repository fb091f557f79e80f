"""A ModelInferRequest → validated arrays for one model. Every refusal names the model, the tensor and the remedy."""

from __future__ import annotations

from collections.abc import Mapping

from server.api.binary_tensors import from_bytes
from server.api.infer_call import ExpectedInput, InferCall, ModelInterface, OutputChoice, TextCall
from server.api.parameters import read_timeout, read_truncate
from server.backends.base import Array
from server.errors import BadRequest, Unsupported
from server.grpc_api.messages import InferParameter, ModelInferRequest
from server.grpc_api.typed_contents import from_contents
from server.runtime.served import ServedModel

FINAL_FLAG = "triton_enable_empty_final_response"
"""The one reserved parameter that has a meaning: mark the last reply as the last."""


class RequestDecoder:
    """Decodes for one model; what can be prepared is prepared here, once."""

    def __init__(self, model: ServedModel) -> None:
        self._interface = ModelInterface(model)
        self._all = [OutputChoice(place, True) for place in range(self._interface.n_outputs)]

    def decode(self, request: ModelInferRequest) -> InferCall | TextCall:
        """Raises BadRequest or Unsupported."""
        inputs, rows, length = self._inputs(request)
        parameters = _plain(request.parameters) if request.parameters else {}
        timeout_s = read_timeout(parameters) if parameters else None
        outputs = self._outputs(request)
        texts = self._interface.texts(inputs, outputs)
        if texts is not None:
            return TextCall(request.id, texts, read_truncate(parameters), timeout_s, outputs)
        return InferCall(request.id, inputs, rows, length, timeout_s, outputs)

    def _inputs(self, request: ModelInferRequest) -> tuple[dict[str, Array], int, int]:
        interface = self._interface
        tensors, blobs = request.inputs, request.raw_input_contents
        if blobs and len(blobs) != len(tensors):
            raise BadRequest(
                f"model {interface.model}: raw_input_contents has {len(blobs)} entries for {len(tensors)} inputs; send one "
                "for each, or none and typed contents"
            )
        inputs: dict[str, Array] = {}
        rows = length = -1
        for place, tensor in enumerate(tensors):
            shape = list(tensor.shape)
            expected = interface.input(tensor.name, tensor.datatype, shape)
            if expected.name in inputs:
                raise BadRequest(f"model {interface.model}: input {expected.name!r} is given twice")
            array = _array(expected, tensor, shape, blobs[place] if blobs else None)
            rows, length = interface.check_sizes(expected, array.shape, rows, length)
            inputs[expected.name] = array
        interface.check_complete(inputs)
        return inputs, rows, max(length, 0)

    def _outputs(self, request: ModelInferRequest) -> list[OutputChoice]:
        if not request.outputs:
            return self._all
        return self._interface.check_outputs([self._output(wanted) for wanted in request.outputs])

    def _output(self, wanted: ModelInferRequest.InferRequestedOutputTensor) -> OutputChoice:
        place = self._interface.output_place(wanted.name)
        if not wanted.parameters:
            return OutputChoice(place, True)
        _check_no_shared_memory(wanted.parameters, f"output {wanted.name!r}")
        if "classification" not in wanted.parameters:
            return OutputChoice(place, True)
        return OutputChoice(place, True, self._interface.classes(place, _value(wanted.parameters["classification"])))


def _array(expected: ExpectedInput, tensor: ModelInferRequest.InferInputTensor, shape: list[int], blob: bytes | None) -> Array:
    """The values of one input; `blob` None: they are typed."""
    if tensor.parameters:
        _check_no_shared_memory(tensor.parameters, f"input {expected.name!r}")
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


def _plain(parameters: Mapping[str, InferParameter]) -> dict[str, object]:
    """The parameters as Python values, less the one that is not the model's affair. Raises BadRequest."""
    plain = {name: _value(parameter) for name, parameter in parameters.items()}
    if not isinstance(plain.pop(FINAL_FLAG, False), bool):
        raise BadRequest(f"parameter {FINAL_FLAG!r} must be a bool_param")
    return plain


def _value(parameter: InferParameter) -> object:
    """None when none of the kinds is filled."""
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _check_no_shared_memory(parameters: Mapping[str, InferParameter], where: str) -> None:
    if "shared_memory_region" in parameters:
        raise Unsupported(f"{where}: the shared memory extension is not offered by this server")
