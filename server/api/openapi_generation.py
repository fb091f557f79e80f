"""The routes that generate as the OpenAPI page describes them: OpenAI's and Triton's; they never reach FastAPI."""

from __future__ import annotations

from typing import Any

from server.api.generation.chat import HARMLESS, ROLES
from server.api.generation.completions import MOST_ANSWERS
from server.api.generation.response_format import KINDS
from server.api.generation.triton_call import USUAL_TOKENS
from server.api.generation.wishes import LONGEST_STOP, MOST_STOPS
from server.api.openapi_v1 import TERMS_HEADERS
from server.generation.options import MOST_LOGPROBS

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean", "default": False}
_COUNT = {"type": "integer", "minimum": 1}
_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}


def _number(least: float, most: float, default: float, kind: str = "number", **more: Any) -> dict[str, Any]:
    return {"type": kind, "minimum": least, "maximum": most, "default": default, **more}


_WISHES: dict[str, Any] = {
    "temperature": _number(0, 2, 1, description="0: the likeliest token, whatever else is said"),
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1},
    "top_k": {"type": "integer", "minimum": -1, "default": 0, "description": "0 and -1: all. Not part of OpenAI's form"},
    "min_p": _number(0, 1, 0, description="Not part of OpenAI's form"),
    "presence_penalty": _number(-2, 2, 0),
    "frequency_penalty": _number(-2, 2, 0),
    "repetition_penalty": _number(0.01, 100, 1, description="Not part of OpenAI's form"),
    "logit_bias": {
        "type": "object", "additionalProperties": _number(-100, 100, 0), "description": "Token ids, in digits, and what is added to their logits",
    },
    "seed": {"type": "integer", "description": "The same one gives the same answer, whoever else is served"},
    "stop": {
        "anyOf": [_TEXT, {"type": "array", "maxItems": MOST_STOPS, "items": {**_TEXT, "minLength": 1, "maxLength": LONGEST_STOP}}],
        "description": "Texts that end an answer; they are not part of it",
    },
    "max_tokens": {**_COUNT, "description": f"{USUAL_TOKENS} where nothing is said; in chats as many as there is room for"},
    "min_tokens": {"type": "integer", "minimum": 0, "default": 0, "description": "Not part of OpenAI's form"},
    "response_format": {
        "type": "object", "required": ["type"], "additionalProperties": False,
        "properties": {
            "type": {"enum": list(KINDS)},
            "json_schema": {
                "type": "object", "required": ["schema"], "additionalProperties": False,
                "properties": {"name": _TEXT, "description": _TEXT, "schema": {"type": "object"}, "strict": {"type": "boolean"}},
            },
        },
        "description": "The answer is JSON, an object or by a schema; it is kept whatever `strict` says",
    },
    "ignore_eos": {**_FLAG, "description": "Tokens that end answers are tokens like others. Not part of OpenAI's form"},
}  # fmt: skip
_COMMON: dict[str, Any] = {
    "model": _TEXT,
    "n": _number(1, MOST_ANSWERS, 1, "integer", description="Answers to each prompt"),
    "stream": _FLAG,
    "stream_options": {
        "type": "object", "additionalProperties": False,
        "properties": {"include_usage": _FLAG, "continuous_usage_stats": _FLAG, "include_obfuscation": {"const": False}},
    },
    **{name: {"description": "Not looked at"} for name in ("user", "metadata", "safety_identifier", "prompt_cache_key")},
}  # fmt: skip
_COMPLETION: dict[str, Any] = {
    **_COMMON, **_WISHES,
    "max_completion_tokens": {**_COUNT, "description": "The same as `max_tokens`. Not part of OpenAI's form"},
    "prompt": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, _IDS, {"type": "array", "items": _IDS}]},
    "echo": _FLAG,
    "logprobs": {"type": "integer", "minimum": 0, "maximum": MOST_LOGPROBS},
    "best_of": {"type": "integer", "description": "1, or as many as `n`"},
}  # fmt: skip
_CHAT: dict[str, Any] = {
    **_COMMON, **_WISHES,
    "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/ChatMessage"}},
    "max_completion_tokens": _COUNT,
    "logprobs": _FLAG,
    "top_logprobs": {"type": "integer", "minimum": 0, "maximum": MOST_LOGPROBS},
    **{
        name: {"enum": [*values, None], "description": "Not supported: these values, which ask for nothing, are accepted"}
        for name, values in HARMLESS.items()
    },
}  # fmt: skip
_TRITON: dict[str, Any] = {
    **_WISHES,
    "text_input": {**_TEXT, "minLength": 1},
    "id": _TEXT,
    "stream": {"type": "boolean", "description": "As the route says, or left out"},
    "exclude_input_in_output": {
        "type": "boolean",
        "description": "True: only what follows. Otherwise the text comes first; in a stream it never does, and false is refused",
    },
    "priority": {
        "type": ["integer", "string"],
        "description": "A class of the model, by its number (1: the most urgent) or name",
    },
    "timeout": {"type": "integer", "minimum": 0, "description": "µs until the first token; 0: the SLO alone"},
}
_USAGE = {
    "type": "object",
    "properties": {
        "prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"},
        "prompt_tokens_details": {"type": "object", "properties": {"cached_tokens": {"type": "integer"}}},
    },
}  # fmt: skip


def _body(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "additionalProperties": False, "properties": properties, **more}


def _reply(kind: str, answer: dict[str, Any]) -> dict[str, Any]:
    choice = {
        "index": {"type": "integer"}, "finish_reason": {"enum": ["stop", "length", None]}, "logprobs": {"type": ["object", "null"]},
        **answer,
    }  # fmt: skip
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": _TEXT, "object": {"const": kind}, "created": {"type": "integer"}, "model": _TEXT, "system_fingerprint": _TEXT,
            "choices": {"type": "array", "items": {"type": "object", "properties": choice}},
            "usage": _USAGE,
        },
    }  # fmt: skip


_PART = {"type": "object", "properties": {"type": {"const": "text"}, "text": _TEXT}}

SCHEMAS: dict[str, Any] = {
    "CompletionRequest": _body(_COMPLETION, "model", "prompt"),
    "CompletionReply": _reply("text_completion", {"text": _TEXT}),
    "ChatMessage": _body(
        {"role": {"enum": list(ROLES)}, "content": {"anyOf": [_TEXT, {"type": "array", "items": _PART}]}, "name": _TEXT,
         "type": {"enum": ["text", "message"]}},
        "role", "content", additionalProperties=True,
        description="Of an answer that is sent back, what clients hang on it is not looked at: docs/generation.md",
    ),
    "ChatRequest": _body(_CHAT, "model", "messages"),
    "ChatReply": _reply("chat.completion", {"message": {"type": "object", "properties": {"role": _TEXT, "content": _TEXT}}}),
    "GenerateRequest": _body(
        {**_TRITON, "parameters": {"type": "object", "description": "All but `text_input` may stand here instead"}}, "text_input"
    ),
    "GenerateReply": {
        "type": "object",
        "required": ["model_name", "model_version", "text_output"],
        "properties": {"id": _TEXT, "model_name": _TEXT, "model_version": _TEXT, "text_output": _TEXT},
    },
}  # fmt: skip

_V1_ERRORS = {
    "400": "The request is wrong, asks for what is not supported, or its prompt leaves no room (context_length_exceeded)",
    "404": "No such model, or none that generates",
    "413": "The body is over the limit",
    "429": "The first token would come too late, or too many wait; Retry-After says when to try again",
    "500": "The model failed on this very request",
    "503": "The model is not ready, or its instance died",
}
_V2_ERRORS = {
    "400": "The request is wrong, or its model does not generate",
    "404": "No such model or version",
    "413": "The body is over the limit",
    "500": "The model failed on this very request",
    "503": "Not ready, or the first token would come too late; Retry-After says when to try again",
}
_EVENTS = {"schema": _TEXT, "description": "Server-sent events; an error in the middle is the last one"}


def v1_generation_paths() -> dict[str, Any]:
    """Path → operations."""
    return {
        "/v1/completions": {"post": _v1("completions", "Continue texts", "Completion")},
        "/v1/chat/completions": {"post": _v1("chat_completions", "Answer a conversation", "Chat")},
    }


def v2_generation_paths() -> dict[str, Any]:
    """Path → operations."""
    names = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    return {f"{path}/{verb}": {"post": _v2(path, verb)} for path in names for verb in ("generate", "generate_stream")}


def _v1(name: str, summary: str, schema: str) -> dict[str, Any]:
    errors = {status: _told(text, "OpenAiError") for status, text in _V1_ERRORS.items()}
    good = _told(f"{summary}; events where `stream` is true", f"{schema}Reply")
    good["content"]["text/event-stream"] = _EVENTS
    return _operation("OpenAI", summary, f"v1_{name}", f"{schema}Request", [], {"200": good} | errors)


def _v2(path: str, verb: str) -> dict[str, Any]:
    names = [name for name in ("name", "version") if f"{{{name}}}" in path]
    parameters = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]
    good = _told("The text, unless it is to be left out, and what follows it", "GenerateReply")
    if verb == "generate_stream":
        good = {
            "description": "The text that follows, piece by piece: GenerateReply in each event",
            "content": {"text/event-stream": _EVENTS},
        }
    errors = {status: _told(text, "Error") for status, text in _V2_ERRORS.items()}
    summary = "Continue a text" + (", piece by piece" if verb == "generate_stream" else "")
    return _operation("KServe V2", summary, "_".join((verb, *names)), "GenerateRequest", parameters, {"200": good} | errors)


def _operation(
    tag: str, summary: str, name: str, body: str, parameters: list[dict[str, Any]], responses: dict[str, Any]
) -> dict[str, Any]:
    return {
        "tags": [tag],
        "summary": summary,
        "operationId": name,
        "parameters": [*parameters, *TERMS_HEADERS],
        "requestBody": {"required": True, "content": _json(body)},
        "responses": responses,
    }


def _told(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": _json(schema)}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
