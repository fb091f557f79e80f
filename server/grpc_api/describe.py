"""What a loaded model looks like from outside: metadata and configuration, from its manifest."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import ParseDict

from server.api.class_metadata import class_parameters, priority_levels
from server.api.generation.description import generating_config, generating_metadata
from server.api.platforms import instance_kind, platform
from server.api.text_metadata import text_parameters
from server.contract.layout import MANIFEST
from server.contract.tensors import TensorSpec
from server.grpc_api.messages import ModelConfig, ModelMetadataResponse
from server.runtime.registry import Served
from server.runtime.served_decoder import ServedDecoder


def metadata(model: Served) -> ModelMetadataResponse:
    """Shapes with the batch axis; −1 where a size is free. That a model takes text is told by its configuration."""
    if isinstance(model, ServedDecoder):
        told: ModelMetadataResponse = ParseDict(generating_metadata(model), ModelMetadataResponse())
        return told
    manifest = model.manifest
    return ModelMetadataResponse(
        name=model.key.name,
        versions=[str(model.key.version)],
        platform=platform(manifest.backend),
        inputs=[_tensor(spec) for spec in manifest.inputs],
        outputs=[_tensor(spec) for spec in manifest.outputs],
    )


def config(model: Served) -> ModelConfig:
    """The configuration as far as clients read it: less than HTTP tells. The batch axis is not part of dims."""
    if isinstance(model, ServedDecoder):
        whole: ModelConfig = ParseDict(generating_config(model), ModelConfig(), ignore_unknown_fields=True)
        return whole
    manifest = model.manifest
    made = ModelConfig(
        name=model.key.name,
        platform=platform(manifest.backend),
        backend=manifest.backend,
        max_batch_size=model.max_rows,
        version_policy={"latest": {"num_versions": 1}},
        input=[_config_tensor(spec) for spec in manifest.inputs],
        output=[_config_tensor(spec) for spec in manifest.outputs],
        dynamic_batching=priority_levels(model.classes),
        instance_group=[{"kind": instance_kind(model.terms), "count": model.placement.instances}],
        default_model_filename=next(file.path for file in manifest.files if file.path != MANIFEST),
    )
    parameters = {**class_parameters(model.classes), "placement": model.terms.why, **text_parameters(model)}
    for name, value in parameters.items():
        made.parameters[name].string_value = value
    return made


def _tensor(spec: TensorSpec) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype.value, shape=spec.wire_shape)


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    name = "STRING" if spec.datatype.value == "BYTES" else spec.datatype.value
    return {"name": spec.name, "data_type": f"TYPE_{name}", "dims": spec.wire_shape[1:]}
