"""Arrays → a ModelInferResponse. Outputs are raw whatever the request used: the official clients read nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from server.api.binary_tensors import to_bytes, to_flat
from server.api.classification import classify
from server.api.infer_call import OutputChoice
from server.api.shared_tensors import SharedOutput, write_all
from server.backends.base import Array
from server.grpc_api.messages import ModelInferResponse
from server.runtime.served import ServedModel


class ReplyEncoder:
    """Encodes for one model."""

    def __init__(self, model: ServedModel) -> None:
        self._name = model.key.name
        self._version = str(model.key.version)
        self._outputs = [(spec.name, spec.datatype.value) for spec in model.manifest.outputs]

    def encode(self, request_id: str, outputs: Sequence[Array], choices: Sequence[OutputChoice]) -> ModelInferResponse:
        """`outputs`: arrays in model order. Those that are wanted in shared memory are written there; their raw entry is empty.

        Raises BadRequest when one does not fit.
        """
        reply = ModelInferResponse(model_name=self._name, model_version=self._version, id=request_id)
        shared: list[SharedOutput] = []
        for place, _, classes, slot in choices:
            name, datatype = self._outputs[place]
            array = outputs[place]
            if classes:
                array, datatype = classify(array, classes), "BYTES"
            reply.outputs.add(name=name, datatype=datatype, shape=array.shape)
            reply.raw_output_contents.append(to_bytes(array, datatype) if slot is None else b"")
            if slot is not None:
                shared.append(SharedOutput(name, slot, to_flat(array, datatype)))
        if shared:
            write_all(shared)
        return reply
