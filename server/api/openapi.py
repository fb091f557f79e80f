"""The OpenAPI document: FastAPI's own, with the routes that never reach FastAPI, and with the errors as they are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from server.api.keys import asks_models
from server.api.openapi_generation import SCHEMAS as GENERATION_SCHEMAS
from server.api.openapi_generation import v1_generation_paths, v2_generation_paths
from server.api.openapi_v1 import SCHEMAS as V1_SCHEMAS
from server.api.openapi_v1 import TERMS_HEADERS, v1_paths

_NAMES = {"type": "string"}
_FREE = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_TENSOR = {
    "name": _NAMES,
    "datatype": {"type": "string", "examples": ["FP32", "INT64", "BYTES"]},
    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    "data": {"type": "array", "items": {}, "description": "Flat or nested, row-major. Not for FP16 and BF16."},
}
_BINARY_SIZE = {"binary_data_size": {"type": "integer", "minimum": 0, "description": "Bytes of this tensor after the JSON"}}
_SHARED = {
    "shared_memory_region": {"type": "string", "description": "The tensor lies in this registered region, not in the body"},
    "shared_memory_byte_size": {"type": "integer", "minimum": 0},
    "shared_memory_offset": {"type": "integer", "minimum": 0, "default": 0},
}

SCHEMAS: dict[str, Any] = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "InferInput": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {**_TENSOR, "parameters": {"type": "object", "properties": {**_BINARY_SIZE, **_SHARED}}},
        "description": "Either `data`, or one of the parameters `binary_data_size` and `shared_memory_region`.",
    },
    "InferRequestedOutput": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": _NAMES,
            "parameters": {
                "type": "object",
                "properties": {
                    "binary_data": {"type": "boolean"},
                    "classification": {"type": "integer", "minimum": 1, "description": "The best n as value:index"},
                    **_SHARED,
                },
            },
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _NAMES,
            "inputs": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/InferInput"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/InferRequestedOutput"}},
            "parameters": {
                **_FREE,
                "properties": {
                    "truncate": {
                        "type": "boolean",
                        "description": "Cut texts that have too many tokens; else they are refused",
                    },
                    "priority": {
                        "type": ["integer", "string"],
                        "description": "A class of the model, by its number (1: the most urgent) or name; 0: the default",
                    },
                    "timeout": {"type": "integer", "minimum": 0, "description": "µs for the whole request; 0: the SLO alone"},
                    "binary_data_output": {"type": "boolean", "description": "All outputs as raw bytes after the JSON"},
                },
            },
        },
    },
    "InferReply": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": _NAMES,
            "model_version": _NAMES,
            "id": _NAMES,
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "datatype", "shape"],
                    "properties": {**_TENSOR, "parameters": {"type": "object", "properties": _BINARY_SIZE}},
                },
            },
        },
    },
}

_LENGTH = {
    "schema": {"type": "integer", "minimum": 0},
    "description": "Bytes of JSON at the start of the body; raw tensors follow it, little-endian, in the order of the inputs. "
    "0: the whole body is the data of the model's only input. Absent: the body is JSON.",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

_ERRORS = {
    "400": "The request is wrong; the text names the tensor",
    "403": "Shared memory is turned off",
    "404": "No such model, version or shared memory region",
    "408": "The body did not come in within its time",
    "413": "The body is over the limit",
    "429": "This client has had its share for now (client_share); Retry-After says when to try again",
    "500": "The model failed on this very request",
    "501": "A part of the protocol that is not offered",
    "503": "Not ready, or the answer would come too late; Retry-After says when to try again",
}


def document(web: FastAPI, needs_key: bool = False) -> dict[str, Any]:
    """FastAPI's document, completed. Made once and kept, as FastAPI does. `needs_key`: whether models are asked with a key."""
    made: dict[str, Any] = FastAPI.openapi(web)
    if "Error" in made["components"]["schemas"]:
        return made
    made["components"]["schemas"].update(SCHEMAS | V1_SCHEMAS | GENERATION_SCHEMAS)
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        made["paths"][path] = {"post": _infer(path)}
    for operations in made["paths"].values():
        for operation in operations.values():
            _tell_the_errors(operation)
    made["paths"].update(v2_generation_paths() | v1_paths() | v1_generation_paths())
    if needs_key:
        _tell_of_keys(made)
    for unused in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(unused, None)
    return made


def _tell_of_keys(made: dict[str, Any]) -> None:
    """So that the page under /docs takes one, and clients that are generated send it."""
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in made["paths"].items():
        if asks_models(path):
            for operation in operations.values():
                operation["security"] = [{"key": []}]
                operation["responses"]["401"] = {"description": "The key is missing or wrong"}


def _infer(path: str) -> dict[str, Any]:
    names = [name for name in ("name", "version") if f"{{{name}}}" in path]
    reply = {"application/json": {"schema": {"$ref": "#/components/schemas/InferReply"}}, "application/octet-stream": _BINARY}
    return {
        "tags": ["KServe V2"],
        "summary": "Infer",
        "description": "JSON, or JSON followed by raw tensors (binary tensor data extension). The content type is not looked at.",
        "operationId": "infer_" + "_".join(names),
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
            {"name": "Inference-Header-Content-Length", "in": "header", "required": False, **_LENGTH},
            *TERMS_HEADERS,
            {
                "name": "Content-Encoding", "in": "header", "required": False,
                "schema": {"type": "string", "enum": ["gzip", "deflate", "identity"]},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
                "application/octet-stream": _BINARY,
            },
        },
        "responses": {
            "200": {
                "description": "The outputs; octet-stream when at least one of them is raw",
                "headers": {"Inference-Header-Content-Length": _LENGTH},
                "content": reply,
            },
            **{status: {"description": text} for status, text in _ERRORS.items()},
        },
    }  # fmt: skip


def _tell_the_errors(operation: dict[str, Any]) -> None:
    """V2's error body everywhere; bad parameters are a 400 here, where FastAPI's own answer would be a 422."""
    responses = operation["responses"]
    if responses.pop("422", None):
        responses.setdefault("400", {"description": "The request is wrong"})
    for status, response in responses.items():
        if int(status) >= 400:
            response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
