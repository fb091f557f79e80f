"""What a model that generates looks like from outside, to V2 clients: metadata and configuration, for HTTP and gRPC alike."""

from __future__ import annotations

from typing import Any

from server.api.class_metadata import class_parameters, priority_levels
from server.api.generation.triton_call import INPUTS, OUTPUT, TEXT_INPUT
from server.api.platforms import platform
from server.contract.durations import format_duration
from server.contract.layout import MANIFEST
from server.contract.tensors import TensorSpec
from server.runtime.served_decoder import ServedDecoder


def generating_metadata(model: ServedDecoder) -> dict[str, Any]:
    """All inputs that the configuration lists: perf_analyzer refuses a model with one that is missing here. Which may be left out, the
    configuration says."""
    return {
        "name": model.key.name,
        "versions": [str(model.key.version)],
        "platform": platform(model.manifest.backend),
        "inputs": [_tensor(spec) for spec in INPUTS],
        "outputs": [_tensor(OUTPUT)],
    }


def generating_config(model: ServedDecoder) -> dict[str, Any]:
    """Triton's ModelConfig in JSON: one request, many responses; the client does not batch."""
    parameters = {
        **class_parameters(model.classes),
        "gap": format_duration(model.gap_s),
        "longest_tokens": str(model.generation.longest),
        "slots": str(model.limits.slots),
        "placement": model.terms.why,
    }
    return {
        "name": model.key.name,
        "platform": platform(model.manifest.backend),
        "backend": model.manifest.backend,
        "max_batch_size": 0,
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [_config_tensor(spec) | {"optional": spec.name != TEXT_INPUT} for spec in INPUTS],
        "output": [_config_tensor(OUTPUT)],
        "dynamic_batching": priority_levels(model.classes),
        "model_transaction_policy": {"decoupled": True},
        "response_cache": {"enable": False},
        "instance_group": [{"kind": "KIND_CPU", "count": model.placement.instances}],
        "default_model_filename": next(file.path for file in model.manifest.files if file.path != MANIFEST),
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": [1]}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    name = "STRING" if spec.datatype.value == "BYTES" else spec.datatype.value
    return {"name": spec.name, "data_type": f"TYPE_{name}", "dims": [1]}
