"""The routes under /v1 as the OpenAPI page describes them; they never reach FastAPI either."""

from __future__ import annotations

from typing import Any

_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_TEXT = {"type": "string"}

SCHEMAS: dict[str, Any] = {
    "OpenAiError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": _TEXT,
                    "type": {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]},
                    "param": {"type": ["string", "null"]},
                    "code": _TEXT,
                },
            }
        },
    },
    "EmbeddingRequest": {
        "type": "object",
        "required": ["model", "input"],
        "additionalProperties": False,
        "properties": {
            "model": _TEXT,
            "input": {
                "anyOf": [_TEXT, {"type": "array", "items": _TEXT}, _IDS, {"type": "array", "items": _IDS}],
                "description": "A text, texts, or token ids of one or of several, special tokens included; at most 2048",
            },
            "encoding_format": {"enum": ["float", "base64"], "default": "float"},
            "dimensions": {"type": "integer", "description": "The model's own size, or left out"},
            "user": {"type": "string", "description": "Not looked at"},
            "truncate": {
                "type": "boolean", "default": False,
                "description": "Cut texts that have too many tokens, instead of refusing them. Not part of OpenAI's form",
            },
            "truncate_prompt_tokens": {"const": -1, "description": "`truncate`, as vLLM's clients say it"},
            "drop_params": {"description": "Not looked at"},
        },
    },
    "EmbeddingReply": {
        "type": "object",
        "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": {"const": "list"},
            "model": _TEXT,
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "object": {"const": "embedding"},
                        "index": {"type": "integer"},
                        "embedding": {
                            "anyOf": [{"type": "array", "items": {"type": "number"}}, _TEXT],
                            "description": "Numbers, or base64 of little-endian float32",
                        },
                    },
                },
            },
            "usage": {
                "type": "object",
                "properties": {"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}},
            },
        },
    },
    "ListedModel": {
        "type": "object",
        "properties": {
            "id": _TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": _TEXT,
        },
    },
    "ListOfModels": {
        "type": "object",
        "properties": {
            "object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": "#/components/schemas/ListedModel"}},
        },
    },
}  # fmt: skip

_ERRORS = {
    "400": "The request is wrong, a text has too many tokens, or more inputs are given than can be answered in time",
    "404": "No such model, or none that makes embeddings",
    "413": "The body is over the limit",
    "429": "The answer would come too late, or this client has had its share; Retry-After says when to try again",
    "500": "The model failed on this very request",
    "503": "The model is not ready, or its instance died",
}


TERMS_HEADERS: list[dict[str, Any]] = [
    {
        "name": "X-Request-Timeout", "in": "header", "required": False, "schema": _TEXT,
        "description": "Time for the whole request, like 50ms or 1.5s; it counts if it is shorter than the SLO",
    },
    {
        "name": "X-Request-Priority", "in": "header", "required": False, "schema": _TEXT,
        "description": "A class of the model, by its number (1: the most urgent) or name",
    },
]  # fmt: skip
"""What may be said of time and urgency beside a body."""


def v1_paths() -> dict[str, Any]:
    """Path → operations."""
    name = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
    embeddings = _operation("embeddings", "Embeddings of texts", "EmbeddingReply", tuple(_ERRORS))
    embeddings["parameters"] = TERMS_HEADERS
    embeddings["requestBody"] = {"required": True, "content": _json("EmbeddingRequest")}
    return {
        "/v1/embeddings": {"post": embeddings},
        "/v1/models": {"get": _operation("list_models", "Models that generate or make embeddings", "ListOfModels", ())},
        "/v1/models/{name}": {
            "get": {**_operation("model", "One of them", "ListedModel", ("404", "503")), "parameters": [name]}
        },
    }


def _operation(name: str, summary: str, reply: str, errors: tuple[str, ...]) -> dict[str, Any]:
    told = {status: {"description": _ERRORS[status], "content": _json("OpenAiError")} for status in errors}
    good = {"200": {"description": summary, "content": _json(reply)}}
    return {"tags": ["OpenAI"], "summary": summary, "operationId": f"v1_{name}", "responses": good | told}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
