"""MLServer: a custom runtime over onnxruntime, tensors by its own NumPy codec."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtests.peers.servers.setup import OnnxModel, read_setup


class OnnxRuntime(MLModel):
    """MLServer's adaptive batching joins requests before they come here."""

    async def load(self) -> bool:
        self._model = OnnxModel(read_setup())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self._model.run({one.name: NumpyCodec.decode_input(one) for one in payload.inputs})
        outputs = [NumpyCodec.encode_output(name, array) for name, array in found.items()]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
