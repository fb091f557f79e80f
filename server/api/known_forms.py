"""Infer bodies that are, but for their numbers, like one that was decoded before: only the numbers are decoded again.

Clients send the same names, shapes and parameters over and over. The same bytes around the numbers mean the same as
when the decoder read them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import orjson

from server.api.binary_tensors import from_bytes
from server.api.infer_call import InferCall, TextCall
from server.api.infer_head import Body
from server.api.number_list import NumberLists
from server.api.v2_request import RequestDecoder
from server.backends.base import Array

MOST_FORMS = 512
LONGEST_FORM = 1024

_DATA = b'"data":'
_LISTS = re.compile(rb"[\s\d+\-.eE,\[\]]*\]")
_NUMBERS = "fiu"
_PLACEHOLDER = ["ferry"]


class _Tensor(NamedTuple):
    name: str
    shape: list[int]
    dtype: np.dtype[Any]
    n_bytes: int


class _JsonForm(NamedTuple):
    """One tensor in JSON; `tail` is what follows its list of numbers."""

    call: InferCall
    tensor: _Tensor
    tail: bytes


class _BinaryForm(NamedTuple):
    """Tensors whose bytes follow the JSON part, one after the other."""

    call: InferCall
    tensors: list[_Tensor]
    n_bytes: int


class FormDecoder:
    """Does what a RequestDecoder does. Bodies of an unknown form go to one."""

    def __init__(self, decoder: RequestDecoder) -> None:
        self._decoder = decoder
        self._json: dict[bytes, _JsonForm] = {}
        self._binary: dict[bytes, _BinaryForm] = {}
        self._numbers = NumberLists()
        self._n_found = 0
        self._learns = True

    @property
    def n_known(self) -> int:
        return len(self._json) + len(self._binary)

    def decode(self, body: Body, header_length: int | None) -> InferCall | TextCall:
        """Raises what RequestDecoder.decode raises, for the same reasons."""
        found = self._find_json(body) if header_length is None else self._find_binary(body, header_length)
        if found is not None:
            self._n_found += 1
            return found
        call = self._decoder.decode(body, header_length)
        if self._learns and isinstance(call, InferCall):
            self._learn(bytes(body), header_length, call)
        return call

    def _find_json(self, body: Body) -> InferCall | None:
        head = bytes(body[:LONGEST_FORM])
        start = head.find(_DATA) + len(_DATA)
        form = self._json.get(head[:start])
        if form is None or body[-len(form.tail) :] != form.tail:
            return None
        tensor, call = form.tensor, form.call
        numbers = self._numbers.read(body[start : len(body) - len(form.tail)], tensor.dtype)
        if numbers is None or numbers.nbytes != tensor.n_bytes:
            return None  # the decoder says what is wrong, and where
        inputs = {tensor.name: numbers.reshape(tensor.shape)}
        return InferCall(call.id, inputs, call.rows, call.length, call.terms, call.outputs)

    def _find_binary(self, body: Body, header_length: int) -> InferCall | None:
        form = self._binary.get(bytes(body[:header_length]))
        if form is None or len(body) - header_length != form.n_bytes:
            return None
        blobs, offset, call = memoryview(body), header_length, form.call
        inputs: dict[str, Array] = {}
        for name, shape, dtype, n_bytes in form.tensors:
            inputs[name] = from_bytes(name, blobs[offset : offset + n_bytes], shape, dtype)
            offset += n_bytes
        return InferCall(call.id, inputs, call.rows, call.length, call.terms, call.outputs)

    def _learn(self, body: bytes, header_length: int | None, call: InferCall) -> None:
        if header_length is None and len(call.inputs) > 1:
            return
        if self.n_known >= MOST_FORMS:
            self._forget()
        tensors = [_Tensor(name, list(one.shape), one.dtype, one.nbytes) for name, one in call.inputs.items()]
        if not self._learns or any(tensor.dtype.kind not in _NUMBERS for tensor in tensors):
            return
        if header_length is None:
            self._learn_json(body, call, tensors)
        else:
            self._learn_binary(body, header_length, call, tensors)

    def _forget(self) -> None:
        """Forms that do not come back are not worth remembering, nor are those after them."""
        self._learns = self._n_found >= MOST_FORMS
        self._n_found = 0
        self._json.clear()
        self._binary.clear()

    def _learn_json(self, body: bytes, call: InferCall, tensors: list[_Tensor]) -> None:
        start = body.find(_DATA) + len(_DATA)
        lists = _LISTS.match(body, start)
        if lists is None:
            return
        head, tail = body[:start], body[lists.end() :]
        if not _is_plain(head + tail):
            return
        if _is_all_but_the_numbers(head, tail, orjson.loads(body)):
            self._json[head] = _JsonForm(_without_inputs(call), tensors[0], tail)

    def _learn_binary(self, body: bytes, header_length: int, call: InferCall, tensors: list[_Tensor]) -> None:
        head, n_bytes = body[:header_length], sum(tensor.n_bytes for tensor in tensors)
        if not header_length or not _is_plain(head) or n_bytes != len(body) - header_length:
            return
        if all("data" not in item for item in orjson.loads(head)["inputs"]):
            self._binary[head] = _BinaryForm(_without_inputs(call), tensors, n_bytes)


def _is_plain(form: bytes) -> bool:
    """Short; and nothing in it stands for more than itself, as a name written with escapes or a region of shared memory would."""
    return len(form) <= LONGEST_FORM and b"\\" not in form and b"shared_memory" not in form


def _is_all_but_the_numbers(head: bytes, tail: bytes, request: dict[str, Any]) -> bool:
    """Whether any list of numbers, flat or nested, between the two is the data of the one input, and nothing else changes with it."""
    try:
        other = orjson.loads(b"".join((head, orjson.dumps(_PLACEHOLDER), tail)))
    except orjson.JSONDecodeError:
        return False  # what follows is not as it seemed
    if other["inputs"][0]["data"] != _PLACEHOLDER:
        return False
    other["inputs"][0]["data"] = request["inputs"][0]["data"]
    return bool(other == request)


def _without_inputs(call: InferCall) -> InferCall:
    """Arrays are views of the body that was learnt from, which must not be kept."""
    return InferCall(call.id, {}, call.rows, call.length, call.terms, call.outputs)
