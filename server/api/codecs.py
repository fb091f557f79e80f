"""Decoder and encoder of each served model, made once."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from server.api.known_forms import FormDecoder
from server.api.shared_memory import Regions
from server.api.v2_request import RequestDecoder
from server.api.v2_response import ReplyEncoder
from server.runtime.served import ServedModel


class Codec(NamedTuple):
    """V2 over HTTP for one model."""

    decoder: FormDecoder
    encoder: ReplyEncoder


class Codecs:
    """Those of a model that is retired go with it."""

    def __init__(self, regions: Regions | None = None) -> None:
        """`regions` None: shared memory is turned off."""
        self._regions = regions
        self._known: WeakKeyDictionary[ServedModel, Codec] = WeakKeyDictionary()

    def of(self, model: ServedModel) -> Codec:
        codec = self._known.get(model)
        if codec is None:
            codec = self._known[model] = Codec(FormDecoder(RequestDecoder(model, self._regions)), ReplyEncoder(model))
        return codec
