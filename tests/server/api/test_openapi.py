"""The OpenAPI document tells what the server does: infer routes, binary bodies, errors as they are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.child_server import ChildServer


@pytest.fixture
def document(server: ChildServer) -> Any:
    assert server.call("GET", "/docs").status == 200
    return server.call("GET", "/openapi.json").json


@pytest.mark.parametrize("path", ["/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"])
def test_infer_is_documented_with_its_binary_bodies(document: Any, path: str) -> None:
    operation = document["paths"][path]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
    assert {entry["name"] for entry in operation["parameters"]} >= {
        "name", "Inference-Header-Content-Length", "X-Request-Timeout", "X-Request-Priority",
    }  # fmt: skip
    assert {"400", "404", "413", "503"} <= set(operation["responses"])


def test_every_error_has_v2_s_body_and_none_is_a_422(document: Any) -> None:
    seen = 0
    for path, operations in document["paths"].items():
        schema = "OpenAiError" if path.startswith("/v1/") else "Error"
        for operation in operations.values():
            assert "422" not in operation["responses"]
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert response["content"] == {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
                    seen += 1
    assert seen > 10


def test_every_reference_leads_somewhere(document: Any) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    found = references(document)
    assert len(found) > 10
    for reference in found:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_each_documented_get_route_answers(server: ChildServer, document: Any) -> None:
    for path, operations in document["paths"].items():
        if "get" in operations:
            reply = server.call(
                "GET", path.replace("{name}", "words" if path.startswith("/v1/") else "affine").replace("{version}", "1")
            )
            assert reply.status == 200, path
