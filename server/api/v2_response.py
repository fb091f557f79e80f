"""Arrays → a V2 infer reply, in JSON or with raw tensors after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from server.api.binary_tensors import to_bytes, to_flat
from server.api.classification import classify
from server.api.infer_call import OutputChoice
from server.api.json_tensors import to_json
from server.api.shared_tensors import SharedOutput, write_all
from server.backends.base import Array
from server.runtime.served import ServedModel

Headers = list[tuple[bytes, bytes]]


class ReplyEncoder:
    """Encodes for one model."""

    def __init__(self, model: ServedModel) -> None:
        self._name = model.key.name
        self._version = str(model.key.version)
        self._outputs = [(spec.name, spec.datatype.value) for spec in model.manifest.outputs]

    def encode(self, request_id: str, outputs: Sequence[Array], choices: Sequence[OutputChoice]) -> tuple[Headers, bytes]:
        """`outputs`: arrays in model order. Those that are wanted in shared memory are written there.

        Raises BadRequest for an output that JSON cannot carry, or that does not fit into its shared memory.
        """
        tensors: list[dict[str, Any]] = []
        blobs: list[bytes] = []
        shared: list[SharedOutput] = []
        for place, binary, classes, slot in choices:
            name, datatype = self._outputs[place]
            array = outputs[place]
            if classes:
                array, datatype = classify(array, classes), "BYTES"
            tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
            if binary:
                blob = to_bytes(array, datatype)
                tensor["parameters"] = {"binary_data_size": len(blob)}
                blobs.append(blob)
            elif slot is None:
                tensor["data"] = to_json(name, array, datatype)
            else:
                shared.append(SharedOutput(name, slot, to_flat(array, datatype)))
            tensors.append(tensor)
        if shared:
            write_all(shared)
        reply: dict[str, Any] = {"model_name": self._name, "model_version": self._version, "outputs": tensors}
        if request_id:
            reply["id"] = request_id
        header = orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
        if not blobs:
            return _json_headers(len(header)), header
        body = b"".join((header, *blobs))
        return [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % len(header)),
            (b"content-length", b"%d" % len(body)),
        ], body


def _json_headers(length: int) -> Headers:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
