"""Triton's Python backend: it hands over all requests of a batch at once. Copied into a Triton model repository."""

from __future__ import annotations

import json
from typing import Any

import triton_python_backend_utils as triton

from loadtests.peers.servers.setup import OnnxModel, read_setup


class TritonPythonModel:
    """The class that the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        self._model = OnnxModel(read_setup())
        self._inputs = [one["name"] for one in json.loads(args["model_config"])["input"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = [{name: triton.get_input_tensor_by_name(one, name).as_numpy() for name in self._inputs} for one in requests]
        found = self._model.run_many(tensors)
        return [triton.InferenceResponse([triton.Tensor(name, array) for name, array in one.items()]) for one in found]
