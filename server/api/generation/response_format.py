"""`response_format`: the JSON schema that an answer is held to, read, checked, and compiled for a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from server.api.generation.closed_schemas import closed
from server.api.generation.fields import BodyFields, shown
from server.api.openai_errors import BadParameter
from server.errors import BadRequest
from server.generation.options import Sampling
from server.generation.serving import GeneratingModel

FIELD = "response_format"

LARGEST_SCHEMA = 65_536
DEEPEST_SCHEMA = 64

ANY_OBJECT = '{"type":"object"}'
KINDS = ("text", "json_object", "json_schema")


def read_response_format(fields: BodyFields) -> str | None:
    """A JSON schema, as JSON; None: the answer is any text. Raises BadParameter."""
    form = fields.child(FIELD)
    if not fields.has(FIELD):
        return None
    kind = form.text("type")
    if kind not in KINDS:
        raise form.wrong("type", f"must be one of {', '.join(KINDS)}, found {shown(form.value('type'))}")
    form.only(("type", "json_schema") if kind == "json_schema" else ("type",), {})
    if kind == "json_schema":
        return _schema(form.child("json_schema"))
    return ANY_OBJECT if kind == "json_object" else None


def _schema(told: BodyFields) -> str:
    told.only(("description", "name", "schema", "strict"), {})
    for name in ("name", "description"):
        told.text(name)
    told.flag("strict")  # it is kept in any case
    schema = told.value("schema")
    if not isinstance(schema, dict):
        raise told.wrong("schema", f"must be a JSON schema, which is an object; found {shown(schema)}")
    if _depth(schema) > DEEPEST_SCHEMA:
        raise told.wrong("schema", f"is nested more than {DEEPEST_SCHEMA} deep; name its parts in '$defs', and use '$ref'")
    n_characters = len(orjson.dumps(schema).decode())
    if n_characters > LARGEST_SCHEMA:
        raise told.wrong("schema", f"has {n_characters:,} characters; {LARGEST_SCHEMA:,} are possible")
    return orjson.dumps(closed(schema)).decode()


def _depth(value: Any) -> int:
    """Of objects and lists in each other; without recursion, since a body may be as deep as it likes."""
    depth, parts = 0, [value]
    while parts and depth <= DEEPEST_SCHEMA:
        depth += 1
        inner = [list(part.values()) if isinstance(part, dict) else part for part in parts]
        parts = [one for values in inner for one in values if isinstance(one, dict | list)]
    return depth


async def held(model: GeneratingModel, sampling: Sampling, schema: str | None) -> Sampling:
    """With the compiled schema, if there is one. Raises BadParameter for one that cannot be kept."""
    if schema is None:
        return sampling
    try:
        return replace(sampling, grammar=await model.grammars.of(schema))
    except BadRequest as error:
        raise BadParameter(FIELD, f"'{FIELD}': {error}") from None
