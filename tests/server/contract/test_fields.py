"""Strict access to decoded JSON: each error names the place and the rule."""

from collections.abc import Callable

import pytest

from server.contract.errors import ContractError
from server.contract.fields import Fields

DATA = {
    "text": "a", "empty": "", "integer": 3, "number": 2.5, "flag": True, "list": [1, 2], "object": {"a": 1},
    "objects": [{"a": 1}], "mixed": [{}, 7], "nothing": None, "nan": float("nan"), "vast": 10**400,
}  # fmt: skip


def fields() -> Fields:
    return Fields(DATA, "demo/1/x.json")


def test_reads_every_kind() -> None:
    read = fields()
    assert (read.text("text"), read.integer("integer"), read.number("number"), read.flag("flag")) == ("a", 3, 2.5, True)
    assert read.number("integer") == 3.0
    assert read.items("list") == [1, 2]
    assert read.mapping("object") == {"a": 1}
    assert read.child("object").integer("a") == 1
    assert read.child("object").where == "demo/1/x.json: object"
    assert [child.where for child in read.children("objects")] == ["demo/1/x.json: objects[0]"]
    assert [read.has(key) for key in ("text", "nothing", "absent")] == [True, False, False]
    read.only(DATA)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda f: f.text("absent"), "demo/1/x.json: field 'absent' is missing"),
        (lambda f: f.text("integer"), "demo/1/x.json: field 'integer' must be a string in quotes, found an integer"),
        (lambda f: f.text("nothing"), "field 'nothing' must be a string in quotes, found null"),
        (lambda f: f.text("empty"), "field 'empty' must not be empty"),
        (lambda f: f.integer("flag"), "field 'flag' must be an integer, found a boolean"),
        (lambda f: f.integer("number"), "field 'number' must be an integer, found a number"),
        (lambda f: f.integer("integer", 4), "field 'integer' must be at least 4, found 3"),
        (lambda f: f.number("text"), "field 'text' must be a number, found a string"),
        (lambda f: f.number("nan"), "field 'nan' must be a finite number of at least 0, found nan"),
        (lambda f: f.number("vast"), "field 'vast' must be a finite number"),
        (lambda f: f.number("number", 3), "must be a finite number of at least 3, found 2.5"),
        (lambda f: f.flag("integer"), "field 'integer' must be true or false, found an integer"),
        (lambda f: f.items("object"), "field 'object' must be a list, found an object"),
        (lambda f: f.child("list"), "field 'list' must be an object, found a list"),
        (lambda f: f.children("mixed"), "x.json: mixed[1]: expected an object, found an integer"),
        (lambda f: f.only(["text"]), "demo/1/x.json: unknown field 'empty'; the known fields are text"),
        (lambda f: Fields({1}, "here"), "here: expected an object, found set"),
    ],
)  # fmt: skip
def test_refusals_name_place_and_rule(read: Callable[[Fields], object], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        read(fields())
    assert message in str(caught.value)
