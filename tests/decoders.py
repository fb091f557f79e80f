"""A tiny decoder with random weights: as an ONNX file whose attention keeps its slots in place, as a NumPy calculation of the same, and as
a version in a repository.

Llama-shaped, but small: two layers, rotary positions, two heads of queries to each head of keys and values. For tests only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from server.backends.base import Array
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.device import this_device
from server.contract.generation import Generation, KeptShape
from server.contract.layout import MANIFEST, STEPS, describe_file, write_json
from server.contract.manifest import Manifest
from server.contract.profile import Placement
from server.contract.publish import publish, staging
from server.contract.step_profile import DecodeCell, PrefillCell, StepProfile
from server.contract.tensors import DataType, TensorSpec
from server.contract.wants import Wants
from server.errors import BadRequest

_EPSILON = 1e-5
_BASE = 10_000.0


@dataclass(frozen=True)
class TinyDecoder:
    """Its shape; the weights follow from `seed`. `ends`: ids that end an answer."""

    vocabulary: int = 64
    layers: int = 2
    heads: int = 4
    kept_heads: int = 2
    head_size: int = 16
    longest: int = 256
    seed: int = 0
    ends: tuple[int, ...] = (0,)

    @property
    def hidden(self) -> int:
        return self.heads * self.head_size

    @property
    def generation(self) -> Generation:
        kept = KeptShape(self.layers, self.kept_heads, self.head_size, DataType.FP32)
        return Generation("tokenizer.json", None, {}, self.ends, self.vocabulary, self.longest, kept)

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Large enough that the likeliest token is never a close call."""
        generator = np.random.default_rng(self.seed)
        hidden, packed = self.hidden, (self.heads + 2 * self.kept_heads) * self.head_size

        def drawn(*shape: int) -> Array:
            made: Array = (generator.standard_normal(shape) * 1.5 / np.sqrt(shape[0])).astype(np.float32)
            return made

        made = {"embedding": generator.standard_normal((self.vocabulary, hidden)).astype(np.float32)}
        for layer in range(self.layers):
            made |= {f"qkv.{layer}": drawn(hidden, packed), f"out.{layer}": drawn(hidden, hidden)}
            made |= {f"up.{layer}": drawn(hidden, 2 * hidden), f"down.{layer}": drawn(2 * hidden, hidden)}
        return {**made, "head": drawn(hidden, self.vocabulary), "cos": self._angles(np.cos), "sin": self._angles(np.sin)}

    def _angles(self, function: Any) -> Array:
        half = self.head_size // 2
        angles: Array = np.arange(self.longest)[:, None] * _BASE ** (-np.arange(half) / half)
        made: Array = function(angles).astype(np.float32)
        return made

    def logits(self, ids: Sequence[int] | Array) -> Array:
        """Of every position: float32 [tokens, vocabulary], calculated in float64 by NumPy."""
        return self._logits(np.asarray(ids), [None] * self.layers)

    def greedy(self, ids: Sequence[int], n_new: int) -> list[int]:
        """What a request gets that asks for the likeliest token each time, and for no end."""
        kept: list[Array | None] = [None] * self.layers
        got, new = [], np.asarray(ids)
        for _ in range(n_new):
            got.append(int(self._logits(new, kept)[-1].argmax()))
            new = np.array(got[-1:])
        return got

    def _logits(self, ids: Array, kept: list[Array | None]) -> Array:
        """Of these tokens, behind those of which `kept` has the keys and values by layer, which grow by theirs."""
        weights = self._exact
        hidden = weights["embedding"][ids]
        for layer in range(self.layers):
            packed = _normed(hidden) @ weights[f"qkv.{layer}"]
            hidden = hidden + self._attended(packed, layer, kept) @ weights[f"out.{layer}"]
            inner = _normed(hidden) @ weights[f"up.{layer}"]
            hidden = hidden + (inner / (1 + np.exp(-inner))) @ weights[f"down.{layer}"]
        return (_normed(hidden) @ weights["head"]).astype(np.float32)

    @cached_property
    def _exact(self) -> dict[str, Array]:
        return {name: value.astype(np.float64) for name, value in self.weights.items()}

    def _attended(self, packed: Array, layer: int, kept: list[Array | None]) -> Array:
        """[tokens, queries, keys and values] → [tokens, hidden]."""
        n_new, groups = len(packed), self.heads // self.kept_heads
        before = kept[layer]
        n_before = 0 if before is None else before.shape[2]
        split = packed.reshape(n_new, -1, self.head_size).swapaxes(0, 1)
        query, key, value = np.split(split, [self.heads, self.heads + self.kept_heads])
        query, both = self._turned(query, n_before), np.stack([self._turned(key, n_before), value])
        both = kept[layer] = both if before is None else np.concatenate([before, both], axis=2)
        scores = query @ both[0].repeat(groups, 0).swapaxes(1, 2) / np.sqrt(self.head_size)
        scores[:, ~np.tri(n_new, n_before + n_new, n_before, dtype=bool)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        attended: Array = (shares / shares.sum(-1, keepdims=True)) @ both[1].repeat(groups, 0)
        return attended.swapaxes(0, 1).reshape(n_new, self.hidden)

    def _turned(self, heads: Array, start: int) -> Array:
        cos, sin = (self._exact[name][start : start + heads.shape[1]] for name in ("cos", "sin"))
        first, second = np.split(heads, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def onnx(self) -> bytes:
        """The file's content."""
        kept = (f"{place}.{layer}.{half}" for place in ("past_key_values", "present") for layer in range(self.layers)
                for half in ("key", "value"))  # fmt: skip
        cache = [helper.make_tensor_value_info(name, TensorProto.FLOAT, self._kept_shape) for name in kept]
        inputs = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"]),
            helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
            helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []),
            helper.make_tensor_value_info("logits_indices", TensorProto.INT64, ["rows"]),
            *cache[: 2 * self.layers],
        ]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", self.vocabulary])]
        constants = {**self.weights, "scale": np.ones(self.hidden, np.float32), "flat": np.array([-1, self.hidden])}
        initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        outputs += cache[2 * self.layers :]
        graph = helper.make_graph(self._nodes(), "decoder", inputs, outputs, initializers)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
        return data

    @property
    def _kept_shape(self) -> list[str | int]:
        return ["batch", self.kept_heads, "max", self.head_size]

    def _nodes(self) -> list[Any]:
        nodes = [helper.make_node("Gather", ["embedding", "input_ids"], ["hidden.0"])]
        for layer in range(self.layers):
            nodes += self._layer(layer)
        return [
            *nodes,
            helper.make_node("Reshape", [f"hidden.{self.layers}", "flat"], ["flattened"]),
            helper.make_node("Gather", ["flattened", "logits_indices"], ["last"]),
            _norm("last", "normed"),
            helper.make_node("MatMul", ["normed", "head"], ["logits"]),
        ]

    def _layer(self, n: int) -> list[Any]:
        kept_in = [f"past_key_values.{n}.key", f"past_key_values.{n}.value"]
        kept_out = [f"present.{n}.key", f"present.{n}.value"]
        lengths = ["seqlens_k", "total_sequence_length", "cos", "sin"]
        return [
            _norm(f"hidden.{n}", f"first.{n}"),
            helper.make_node("MatMul", [f"first.{n}", f"qkv.{n}"], [f"packed.{n}"]),
            helper.make_node(
                "GroupQueryAttention", [f"packed.{n}", "", "", *kept_in, *lengths], [f"attended.{n}", *kept_out],
                domain="com.microsoft", num_heads=self.heads, kv_num_heads=self.kept_heads, do_rotary=1,
            ),
            helper.make_node("MatMul", [f"attended.{n}", f"out.{n}"], [f"projected.{n}"]),
            helper.make_node("Add", [f"hidden.{n}", f"projected.{n}"], [f"middle.{n}"]),
            _norm(f"middle.{n}", f"second.{n}"),
            helper.make_node("MatMul", [f"second.{n}", f"up.{n}"], [f"inner.{n}"]),
            helper.make_node("Sigmoid", [f"inner.{n}"], [f"gate.{n}"]),
            helper.make_node("Mul", [f"inner.{n}", f"gate.{n}"], [f"gated.{n}"]),
            helper.make_node("MatMul", [f"gated.{n}", f"down.{n}"], [f"fed.{n}"]),
            helper.make_node("Add", [f"middle.{n}", f"fed.{n}"], [f"hidden.{n + 1}"]),
        ]  # fmt: skip


def write_decoder(folder: Path, decoder: TinyDecoder) -> Path:
    """Its model file alone; returns the folder."""
    (folder / "model.onnx").write_bytes(decoder.onnx())
    return folder


def step_profile(tiny: TinyDecoder, step_s: float = 1e-3, rows: Sequence[int] = (1, 4), instances: int = 1) -> StepProfile:
    """As if it had been measured on this machine: a step takes so long, and longer with rows, context and tokens."""
    decode = tuple(
        DecodeCell(n, context, step_s * (1 + n / 100 + context / 1e5), step_s * (1.1 + n / 100 + context / 1e5), 9)
        for n in rows for context in (1, tiny.longest)
    )  # fmt: skip
    prefill = tuple(PrefillCell(tokens, step_s * tokens / 64, step_s * tokens / 60, 9) for tokens in (16, 64, 128))
    return StepProfile(this_device(OnnxDecoderBackend.runtime), Placement(instances, 1), decode, prefill)


def publish_decoder(
    repository: Path, name: str = "tiny", tiny: TinyDecoder | None = None, wants: Wants | None = None, steps: StepProfile | None = None
) -> int:  # fmt: skip
    """A version of a model that generates, as the optimizer would leave it; returns its number. `steps`: None for made-up ones."""
    tiny = tiny or TinyDecoder()
    with staging(repository) as folder:
        version = folder / "version"
        version.mkdir()
        write_decoder(version, tiny)
        (version / tiny.generation.tokenizer).write_text("{}")
        files = tuple(describe_file(version / file) for file in ("model.onnx", tiny.generation.tokenizer))
        texts = [TensorSpec(one, DataType.BYTES, ("batch", 1)) for one in ("text_input", "text_output")]
        manifest = Manifest(
            name, OnnxDecoderBackend.name, files, (texts[0],), (texts[1],), None, 1, (), None, generation=tiny.generation
        )
        write_json(version / MANIFEST, manifest.to_json())
        write_json(version / STEPS, (steps or step_profile(tiny)).to_json())
        return publish(version, repository, name, wants or Wants(30.0, gap_s=30.0))


class IdCodec:
    """Texts are ids, written as numbers. Satisfies server.generation.texts.TextCodec, and loads itself."""

    chats = False

    def codec(self, folder: Path, generation: Generation) -> IdCodec:
        return self

    def encode(self, text: str, special: bool) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(self._text, ids))

    def piece(self, token: int) -> bytes:
        return self._text(token).encode()

    def serialized(self) -> str:
        return "{}"

    def stream(self) -> IdCodec:
        return self

    def add(self, token: int) -> str:
        return self._text(token)

    def rest(self) -> str:
        return ""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        raise BadRequest("it has no chat template")

    def _text(self, token: int) -> str:
        return f" {token}"


def _normed(hidden: Array) -> Array:
    centred = hidden - hidden.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + _EPSILON)  # type: ignore[no-any-return]


def _norm(source: str, target: str) -> Any:
    return helper.make_node("LayerNormalization", [source, "scale"], [target], epsilon=_EPSILON)
