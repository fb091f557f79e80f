"""Every V2 route but infer: health, metadata, configuration, statistics, model repository."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from server import __version__
from server.api.bodies import documented, json_object
from server.api.class_metadata import class_parameters, priority_levels
from server.api.generation.description import generating_config, generating_metadata
from server.api.guard import Guard
from server.api.platforms import instance_kind, platform
from server.api.shared_memory import Regions
from server.api.text_metadata import text_parameters
from server.contract.layout import MANIFEST
from server.contract.tensors import TensorSpec
from server.errors import BadRequest, NotReady, Unsupported
from server.runtime.registry import Registry, Served
from server.runtime.served import ServedModel
from server.telemetry.model_stats import all_stats

_EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
]
"""What works, and nothing else. `parameters` is not here: custom ones are checked and then have no effect."""

SHARED_MEMORY = "system_shared_memory"


def extensions(regions: Regions | None) -> list[str]:
    """The names of what this server offers."""
    return sorted(_EXTENSIONS if regions is None else [*_EXTENSIONS, SHARED_MEMORY])


def v2_routes(registry: Registry, guard: Guard, regions: Regions | None) -> APIRouter:
    """Routes over one registry; `guard` protects those that change it."""
    routes = APIRouter(prefix="/v2", tags=["KServe V2"])

    @routes.get("")
    async def server_metadata() -> dict[str, Any]:
        return {"name": "ferry", "version": __version__, "extensions": extensions(regions)}

    @routes.get("/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/health/ready")
    async def ready() -> dict[str, bool]:
        if not registry.ready:
            reasons = [f"{name}: {reason}" for name in registry.names() if (reason := registry.problem(name))]
            raise NotReady(f"not every model is ready; {'; '.join(reasons)}")
        return {"ready": True, "live": True}

    @routes.get("/models")
    async def models() -> dict[str, list[str]]:
        return {"models": [model.key.name for model in registry.served]}

    @routes.get("/models/stats")
    async def statistics() -> dict[str, Any]:
        return all_stats(model.stats for model in registry.served)

    for prefix in ("/models/{name}", "/models/{name}/versions/{version}"):
        _model_routes(routes, prefix, registry)
    _repository_routes(routes, registry, guard)
    whole = APIRouter()
    whole.include_router(routes)
    whole.add_api_route("/health", ready, tags=["KServe V2"], summary="As /v2/health/ready, where tools for other servers look")
    return whole


def _model_routes(routes: APIRouter, prefix: str, registry: Registry) -> None:
    """The same routes with and without a version in the path."""

    def find_served(request: Request) -> Served:
        path: dict[str, str] = request.path_params
        return registry.find_served(path["name"], path.get("version"))

    @routes.get(prefix)
    async def metadata(request: Request) -> dict[str, Any]:
        model = find_served(request)
        return _metadata(model) if isinstance(model, ServedModel) else generating_metadata(model)

    @routes.get(f"{prefix}/ready")
    async def ready(request: Request) -> dict[str, Any]:
        return {"name": find_served(request).key.name, "ready": True}

    @routes.get(f"{prefix}/config")
    async def config(request: Request) -> dict[str, Any]:
        model = find_served(request)
        return _config(model) if isinstance(model, ServedModel) else generating_config(model)

    @routes.get(f"{prefix}/stats")
    async def stats(request: Request) -> dict[str, Any]:
        return all_stats([find_served(request).stats])


def _repository_routes(routes: APIRouter, registry: Registry, guard: Guard) -> None:
    protected = [Depends(guard)]

    @routes.post("/repository/index", openapi_extra=documented(ready="boolean"))
    async def index(request: Request) -> JSONResponse:
        only_ready = (await json_object(request)).get("ready", False)
        if not isinstance(only_ready, bool):
            raise BadRequest("'ready' must be true or false")
        rows = [row for name in registry.names() for row in _index_rows(registry, name)]
        return JSONResponse([row for row in rows if not only_ready or row.get("state") == "READY"])

    @routes.post("/repository/models/{name}/load", dependencies=protected, openapi_extra=documented())
    async def load(name: str, request: Request) -> Response:
        if (await json_object(request)).get("parameters"):
            raise Unsupported(
                "load with parameters is not offered: register files with POST /admin/models/NAME/versions, "
                "and put what differs from the defaults into the model's model.toml"
            )
        await registry.load(name)
        return Response()

    @routes.post("/repository/models/{name}/unload", dependencies=protected, openapi_extra=documented(parameters="object"))
    async def unload(name: str, request: Request) -> Response:
        await json_object(request)  # unload_dependents is legal and has nothing to do here: no model depends on another
        await registry.unload(name)
        return Response()


def _index_rows(registry: Registry, name: str) -> list[dict[str, str]]:
    rows = [
        {"name": name, "version": str(version), "state": status.state.value, "reason": status.reason}
        for version, status in registry.status(name).items()
    ]
    return rows or [{"name": name}]


def _metadata(model: ServedModel) -> dict[str, Any]:
    """The inputs are the tensors that a request gives together; that text may stand for them is told beside them."""
    metadata: dict[str, Any] = {
        "name": model.key.name,
        "versions": [str(model.key.version)],
        "platform": platform(model.manifest.backend),
        "inputs": [_tensor(spec) for spec in model.manifest.inputs],
        "outputs": [_tensor(spec) for spec in model.manifest.outputs],
    }
    told = text_parameters(model)
    return metadata | {"parameters": told} if told else metadata


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": spec.wire_shape}


def _config(model: ServedModel) -> dict[str, Any]:
    """Triton's ModelConfig in JSON, as far as its clients read it. The batch axis is not part of dims."""
    return {
        "name": model.key.name,
        "platform": platform(model.manifest.backend),
        "backend": model.manifest.backend,
        "max_batch_size": model.max_rows,
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [
            _config_tensor(spec) | {"is_shape_tensor": False, "allow_ragged_batch": False, "optional": False}
            for spec in model.manifest.inputs
        ],
        "output": [_config_tensor(spec) for spec in model.manifest.outputs],
        "dynamic_batching": priority_levels(model.classes),
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
        "instance_group": [{"kind": instance_kind(model.terms), "count": model.placement.instances}],
        "default_model_filename": next(file.path for file in model.manifest.files if file.path != MANIFEST),
        "parameters": {
            name: {"string_value": value}
            for name, value in {
                **class_parameters(model.classes),
                "placement": model.terms.why,
                **text_parameters(model),
            }.items()
        },
    }


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    name = "STRING" if spec.datatype.value == "BYTES" else spec.datatype.value
    return {"name": spec.name, "data_type": f"TYPE_{name}", "dims": spec.wire_shape[1:]}
