"""What tools made contests with the plain export and with ferry's choice; what cannot is told with its reason."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from loadtests.optimizers import contest
from loadtests.optimizers.claims import FERRY, PLAIN
from loadtests.optimizers.contest import Places, prepare
from loadtests.optimizers.tool import Recipe, Steps, Tool, Work
from loadtests.optimizers.upload import Refused, Taken
from loadtests.side_by_side import TERMS
from tests.loadtests.peers.example import doubling

COPY = "import shutil,sys;shutil.copy(sys.argv[1],'model.onnx')"


def copied(work: Work) -> Steps:
    return Steps([[str(work.python), "-c", COPY, str(work.plain)]], "model.onnx")


def failing(work: Work) -> Steps:
    return Steps([[str(work.python), "-c", "raise SystemExit('no such pass')"]], "model.onnx")


def recipe(name: str, steps: object = copied) -> Recipe:
    return Recipe(name, "says", ("digits",), steps)  # type: ignore[arg-type]


@pytest.mark.parametrize("usable", ["openvino-bf16", "openvino-f32", "none"])
def test_contestants_and_reasons(usable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, in_process = doubling(tmp_path / "plain")
    doubling(tmp_path / "chosen")
    seen: list[tuple[str, bool]] = []
    tried: list[str] = []

    def on_openvino(file: Path, repository: Path, backend: str) -> Taken:
        assert repository.name == f"plain-{backend}"
        tried.append(backend)
        if backend != usable:
            raise Refused("not here")
        return Taken(file, 4, None, ())

    def taken(
        file: Path,
        _plain: Path,
        quality: str,
        passed: bool,
        _slo: float,
        repository: Path,
        _server: str,
        backend: str = "onnxruntime",
    ) -> Taken:
        if backend != "onnxruntime":
            return on_openvino(file, repository, backend)
        seen.append((quality, passed))
        if repository.name == "swift-proud":
            raise Refused("rows influence each other")
        return Taken(file, 4, None, ())

    monkeypatch.setattr(contest.models, "load", lambda *_: (model, in_process))
    monkeypatch.setattr(contest, "take_in", taken)
    recipes = (recipe("fast"), recipe("odd one", failing), recipe("proud"), Recipe("other", "says", ("minilm",), copied))
    tool = Tool("swift", "Swift", "swift", ("swift==1",), recipes)
    places = Places(tmp_path / "plain", tmp_path / "chosen", tmp_path / "made", "serve", 8)
    subject = prepare("digits", TERMS["digits"], places, [(tool, Path(sys.executable))])
    reasons = {"swift odd one": "no such pass", "swift proud": "rows influence each other"}
    if usable == "none":
        assert [one.key for one in subject.contestants] == [PLAIN, FERRY, "swift fast"]
        assert subject.reasons == {"plain export on OpenVINO": "openvino-bf16: not here; openvino-f32: not here", **reasons}
    else:
        assert [one.key for one in subject.contestants] == [PLAIN, FERRY, "plain export on OpenVINO", "swift fast"]
        assert subject.reasons == reasons
        assert tried[-1] == usable
    assert seen[0] == ("mean cosine 1.00000, worst 1.00000 (agreement with the original, not accuracy)", True)
    assert np.load(tmp_path / "made" / "digits.npz")["x"].shape == (8, 64)
