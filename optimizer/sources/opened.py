"""A user's model in memory: the module, the sample requests, and predictions by PyTorch. Needs torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from optimizer.errors import SourceError
from optimizer.options import Options
from optimizer.sources.python_file import PythonFile
from optimizer.sources.settings import Settings, check_ragged
from optimizer.sources.tensors import Single, check_samples, signature_of
from server.backends.base import Array
from server.intake.inspect import Signature
from server.intake.samples import Samples


class Opened:
    """Everything is built once, at the first need. All properties raise SourceError naming what is wrong in the file."""

    def __init__(self, source: PythonFile, options: Options) -> None:
        self.source = source
        self._options = options

    @cached_property
    def settings(self) -> Settings:
        """The file's settings with the options of the command line on top."""
        settings, options = self.source.settings(), self._options
        settings = replace(
            settings,
            lengths=options.lengths or settings.lengths,
            pads={**settings.pads, **options.pads},
            max_rows=options.max_rows or settings.max_rows,
        )
        check_ragged(settings, str(self.source.path))
        return settings

    @cached_property
    def module(self) -> torch.nn.Module:
        """What build() returns, in eval mode."""
        module = self.source.call("build")
        if not isinstance(module, torch.nn.Module):
            raise self._wrong(f"build() returned {type(module).__name__}; return a torch.nn.Module")
        if module.training:
            raise self._wrong("build() returned a module in training mode; return module.eval()")
        return module

    @cached_property
    def singles(self) -> list[Single]:
        """The sample requests, checked against the settings and the arguments of forward."""
        singles = check_samples(self.source.call("samples"), self.settings, str(self.source.path))
        self._check_arguments(set(singles[0]))
        return singles

    @cached_property
    def tokenizer(self) -> Path | None:
        """The tokenizer.json that tokenizer() names; None when the file has no such function."""
        if not self.source.has("tokenizer"):
            if self.settings.embedding or self.settings.text_inputs:
                raise self._wrong("EMBEDDING and TEXT_INPUTS are for models that take text; define tokenizer()")
            return None
        path = self.source.call("tokenizer")
        if not isinstance(path, (str, Path)) or not Path(path).is_file():
            raise self._wrong(f"tokenizer() returned {path!r}; return the path of a tokenizer.json of the tokenizers library")
        return Path(path)

    @cached_property
    def texts(self) -> list[str]:
        """The texts that the samples are the tokens of, in their order."""
        texts = self.source.call("texts")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or len(texts) != len(self.singles):
            raise self._wrong(f"texts() must return the texts of the {len(self.singles)} samples, as a list in their order")
        return texts

    @cached_property
    def signature(self) -> Signature:
        """The inputs as the samples and AXES describe them; outputs are known only after the export."""
        return signature_of(self.singles[0], self.settings)

    @cached_property
    def lengths(self) -> tuple[int, int] | None:
        """Shortest and longest size of the ragged axis: LENGTHS, else what the samples have."""
        axis = self.settings.ragged_axis
        if axis is None or self.settings.lengths is not None:
            return self.settings.lengths
        specs = [(spec.name, number) for spec in self.signature.inputs if (number := spec.axis(axis)) is not None]
        sizes = {single[name].shape[number] for single in self.singles for name, number in specs}
        if len(sizes) < 2:
            raise self._wrong(f"all samples have length {min(sizes)}; set LENGTHS, or give samples of several lengths")
        return min(sizes), max(sizes)

    @cached_property
    def samples(self) -> Samples:
        """Batches of any size and length, cut from the sample requests."""
        return Samples(self.signature, self.singles)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """OUTPUTS, else the names that forward itself gives, else "output" or "output_0" …"""
        first = self.samples.batch(1, self.lengths[0] if self.lengths else 0)
        tensors = flatten(self._forward(first))
        names = self.settings.outputs
        if names is not None and len(names) != len(tensors):
            raise self._wrong(f"OUTPUTS names {len(names)} outputs, forward returns {len(tensors)}")
        names = names or tuple(tensors)
        clash = sorted(set(names) & set(first))
        if clash:
            raise self._wrong(f"{clash[0]!r} is an input and an output; set OUTPUTS to other names")
        return names

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """PyTorch's own answers: arrays [n, …] by input name → arrays [n, …] by output name."""
        tensors = flatten(self._forward(inputs)).values()
        return {name: tensor.detach().cpu().numpy() for name, tensor in zip(self.output_names, tensors, strict=True)}

    def _forward(self, inputs: Mapping[str, Array]) -> object:
        # Sliced arrays may be read-only or have negative strides, which torch does not take.
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in inputs.items()}
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        with self.source.blamed(f"the module, on {shapes},"), torch.no_grad():
            answer = self.module(**tensors)
        if not flatten(answer):
            raise self._wrong(f"forward returns {type(answer).__name__}; return a tensor, or a tuple or dict of tensors")
        return answer

    def _check_arguments(self, given: set[str]) -> None:
        parameters = inspect.signature(self.module.forward).parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return
        names = {p.name for p in parameters}
        needed = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL}
        if not needed <= given <= names:
            raise self._wrong(f"samples() gives {sorted(given)}, forward takes {sorted(names)}; the names must agree")

    def _wrong(self, why: str) -> SourceError:
        return SourceError(f"{self.source.path}: {why}")


def flatten(answer: object) -> dict[str, torch.Tensor]:
    """The tensors of what forward returned, by name, in its own order; empty when there is anything else in it."""
    if isinstance(answer, torch.Tensor):
        return {"output": answer}
    if isinstance(answer, Mapping):
        named = {str(name): value for name, value in answer.items() if value is not None}
    elif isinstance(answer, (tuple, list)):
        named = {f"output_{number}": value for number, value in enumerate(answer)}
    else:
        return {}
    return named if all(isinstance(value, torch.Tensor) for value in named.values()) else {}
