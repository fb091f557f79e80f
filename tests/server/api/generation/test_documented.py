"""The OpenAPI page names exactly the fields that are read."""

from __future__ import annotations

from server.api.generation import chat, completions, triton_call
from server.api.openapi_generation import SCHEMAS, v1_generation_paths, v2_generation_paths


def test_every_field_that_is_read_is_documented_and_no_other() -> None:
    assert set(SCHEMAS["CompletionRequest"]["properties"]) == set(completions.FIELDS)
    assert set(SCHEMAS["ChatRequest"]["properties"]) == set(chat.FIELDS)
    assert set(SCHEMAS["GenerateRequest"]["properties"]) == {*triton_call.FIELDS, "parameters"}
    assert set(SCHEMAS["ChatMessage"]["properties"]) == {"role", "content", "name", "type"}


def test_each_route_says_what_it_takes_and_gives() -> None:
    paths = v1_generation_paths() | v2_generation_paths()
    assert len(paths) == 6
    for path, operations in paths.items():
        operation = operations["post"]
        streams = "text/event-stream" in operation["responses"]["200"]["content"]
        assert streams == (not path.endswith("/generate"))
        assert {"400", "404", "503"} <= set(operation["responses"])
        assert {"X-Request-Timeout", "X-Request-Priority"} <= {entry["name"] for entry in operation["parameters"]}
