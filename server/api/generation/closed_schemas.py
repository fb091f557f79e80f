"""JSON schemas without room for what they do not name: a model that may add properties of its own, small ones above all, goes on with them
until its tokens are spent, and nobody asked for them. Every value that is left satisfies the schema as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions")
_OF_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_OF_ONE = ("items", "additionalProperties", "contains")
_SAID_OTHERWISE = ("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames")
_BESIDE = ("allOf", "anyOf", "oneOf", "$ref")
_ABOUT_OBJECTS = ("properties", "required", "minProperties", *_SAID_OTHERWISE)


def closed(schema: Any) -> Any:
    """`schema` with `additionalProperties` false in each object that names its properties and does not speak of others.

    Not changed: objects that need a property which they do not name, and the whole of a schema that asks two things of one object, each of which
    may name what the other does not.
    """
    parts = list(_parts(schema))
    if any(_asks_twice(part) for part in parts):
        return schema
    return _rebuilt(schema)


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it; values that only look like one, as in `const`, are none."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key in _OF_NAMES:
        if isinstance(named := schema.get(key), dict):
            for one in named.values():
                yield from _parts(one)
    for key in _OF_MANY:
        if isinstance(many := schema.get(key), list):
            for one in many:
                yield from _parts(one)
    for key in _OF_ONE:
        yield from _parts(schema.get(key))


def _asks_twice(part: dict[str, Any]) -> bool:
    both = part.get("allOf")
    if isinstance(both, list) and len(both) > 1:
        return True
    beside = [key for key in _BESIDE if key in part]
    return len(beside) > 1 or (bool(beside) and any(key in part for key in _ABOUT_OBJECTS))


def _rebuilt(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for key in _OF_NAMES:
        if isinstance(named := made.get(key), dict):
            made[key] = {name: _rebuilt(one) for name, one in named.items()}
    for key in _OF_MANY:
        if isinstance(many := made.get(key), list):
            made[key] = [_rebuilt(one) for one in many]
    for key in _OF_ONE:
        if key in made:
            made[key] = _rebuilt(made[key])
    if _names_all(schema):
        made["additionalProperties"] = False
    return made


def _names_all(schema: dict[str, Any]) -> bool:
    named, required, least = schema.get("properties"), schema.get("required", []), schema.get("minProperties", 0)
    if not isinstance(named, dict) or not named or any(key in schema for key in _SAID_OTHERWISE):
        return False
    if not isinstance(required, list) or not isinstance(least, int):
        return False  # the library says what is wrong with it
    return all(isinstance(one, str) and one in named for one in required) and least <= len(named)
