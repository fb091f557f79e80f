from __future__ import annotations

import copy
from typing import Any

import pytest

from server.api.generation.closed_schemas import closed

A, B = {"a": {"type": "string"}}, {"b": {"type": "integer"}}
NO_MORE = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "narrower"),
    [
        ({"type": "object", "properties": A}, {"type": "object", "properties": A, **NO_MORE}),
        ({"properties": A, "required": ["a"], "minProperties": 1}, {"properties": A, "required": ["a"], "minProperties": 1, **NO_MORE}),
        ({"properties": {"properties": {"properties": A}}}, {"properties": {"properties": {"properties": A, **NO_MORE}}, **NO_MORE}),
        ({"type": "array", "items": {"properties": A}}, {"type": "array", "items": {"properties": A, **NO_MORE}}),
        ({"prefixItems": [{"properties": A}]}, {"prefixItems": [{"properties": A, **NO_MORE}]}),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"properties": A}}}, {"$ref": "#/$defs/x", "$defs": {"x": {"properties": A, **NO_MORE}}}),
        ({"anyOf": [{"properties": A}, {"properties": B}]}, {"anyOf": [{"properties": A, **NO_MORE}, {"properties": B, **NO_MORE}]}),
        ({"allOf": [{"properties": A}], "title": "x"}, {"allOf": [{"properties": A, **NO_MORE}], "title": "x"}),
        ({"additionalProperties": {"properties": A}}, {"additionalProperties": {"properties": A, **NO_MORE}}),
    ],
)  # fmt: skip
def test_objects_that_name_their_properties_have_no_others(schema: dict[str, Any], narrower: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    assert closed(schema) == narrower
    assert list(closed(schema)) == list(narrower)
    assert schema == before, "it is the client's"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"}, {"properties": {}}, {"properties": A, "additionalProperties": True}, {"properties": A, "additionalProperties": B["b"]},
        {"properties": A, "patternProperties": {"^x": {}}}, {"properties": A, "required": ["a", "b"]}, {"properties": A, "minProperties": 2},
        {"allOf": [{"properties": A}, {"properties": B}]}, {"properties": A, "anyOf": [{"properties": B}, {"required": ["a"]}]},
        {"properties": A, "$ref": "#/$defs/x", "$defs": {"x": {"properties": B}}}, {"anyOf": [{"properties": A}], "$ref": "#"},
        {"$defs": {"x": {"allOf": [{"$ref": "#/$defs/y"}, {"properties": A}]}, "y": {"properties": B}}, "$ref": "#/$defs/x"},
        {"const": {"properties": A}}, {"enum": [{"properties": A}]}, {"default": {"properties": A}}, {"items": False}, True, [], "properties",
        {"properties": A, "required": "a"}, {"properties": A, "required": [[]]}, {"properties": A, "required": [{}, None]}, {"properties": [A]}, {"properties": A, "minProperties": "2"}, {"properties": "x"},
    ],
)  # fmt: skip
def test_nothing_else_is_changed(schema: Any) -> None:
    assert closed(schema) == schema
