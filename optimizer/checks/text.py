"""Does the version's tokenizer make of texts what the user's own samples are, and do the answers stay PyTorch's?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from optimizer.checks.parity import compare
from optimizer.errors import StageFailed
from optimizer.stages.base import Result, verdict
from optimizer.stages.files import SAMPLES, TEXTS, read_arrays
from server.backends.base import Array, Backend, BatchError, LoadError, Session, TextError
from server.backends.hf_tokenizers import HfTokenizers
from server.contract.layout import TOKENIZER, read_json
from server.contract.manifest import Ragged
from server.intake.errors import IntakeError
from server.intake.inspect import read_signature
from server.intake.measure import Progress
from server.intake.texts import Read, TextReader, TextWish, describe_text


def text_parity(inputs: Mapping[str, Path], out: Path, progress: Progress, *, backend: Backend) -> Result:
    """Gate, for a model that takes text: texts()[n], as the server reads it, is samples()[n] exactly, and the exported model
    answers what PyTorch answered to that sample. Raises StageFailed when the texts cannot be read at all."""
    built = inputs["build"]
    if not (built / TOKENIZER).exists():
        return Result("no tokenizer() given: the model takes tensors only")
    texts = read_json(built / TEXTS, TEXTS)
    progress("tokenizing", 0, 2)
    with closing(backend.load(inputs["export"], threads=1)) as session:
        found = _read(built, session, texts)
        wrong = _first_difference(found, built)
        if wrong is not None:
            return verdict("text", False, wrong)
        progress("comparing", 1, 2)
        worst, n_compared = _worst(session, found, built)
    detail = f"{len(texts)} texts give the samples' own tokens; {n_compared} answers differ from PyTorch by {worst:.2g} times the tolerance"
    return verdict("text", worst <= 1, detail)


def _read(built: Path, session: Session, texts: Sequence[str]) -> list[Read | TextError]:
    """As the server would, with over-long texts cut."""
    settings = Result.read(built).data["settings"]
    signature = read_signature(session.inputs, session.outputs)
    try:
        if signature.ragged_axis is None or settings["lengths"] is None:
            raise IntakeError("a tokenizer is given, but no input has a free axis; name one in AXES")
        shortest, longest = settings["lengths"]
        ragged = Ragged(signature.ragged_axis, shortest, longest, settings["pads"], mixes=False)
        text = describe_text(TextWish(settings["text_inputs"]), TOKENIZER, signature.inputs, ragged)
        tokenizer = HfTokenizers().load(built / TOKENIZER, ragged.longest)
    except (IntakeError, LoadError) as error:
        raise StageFailed(str(error)) from None
    return TextReader(tokenizer, text, signature.inputs, ragged).read(texts, [True] * len(texts))


def _first_difference(found: Sequence[Read | TextError], built: Path) -> str | None:
    """Where text and sample part, in words."""
    samples = read_arrays(built / SAMPLES)
    for number, read in enumerate(found):
        sample = samples[str(number)]
        if isinstance(read, TextError):
            return f"texts()[{number}]: {read}"
        for name, array in sample.items():
            mine = read.inputs.get(name)
            if mine is None or not np.array_equal(mine, array):
                return f"texts()[{number}] gives {_shown(name, mine)}, samples()[{number}] has {_shown(name, array)}: is it another tokenizer?"
    return None


def _worst(session: Session, found: Sequence[Read | TextError], built: Path) -> tuple[float, int]:
    """The greatest excess over the tolerance, and of how many outputs, over the samples that PyTorch answered alone."""
    cases = Result.read(built).data["cases"]
    alone = [number for number, case in enumerate(cases) if case["kind"] == "sample"]
    excesses: list[float] = []
    for read, number in zip(found, alone, strict=False):
        assert isinstance(read, Read), "the difference was looked for before"
        try:
            answers = session.run(read.inputs)
        except BatchError as error:
            raise StageFailed(f"the exported model fails on a text: {error}") from None
        by_name = {spec.name: array for spec, array in zip(session.outputs, answers, strict=True)}
        wanted = read_arrays(built / f"case_{number}.npz")["out"]
        excesses += [compare(by_name[name], array)[1] for name, array in wanted.items()]
    return max(excesses, default=0.0), len(excesses)


def _shown(name: str, array: Array | None) -> str:
    if array is None:
        return f"no {name}"
    head = ", ".join(str(item) for item in array.reshape(-1)[:6].tolist())
    return f"{name} {list(array.shape)} [{head}{', …' if array.size > 6 else ''}]"
