"""Whole runs with candidates of every kind: one is published, all others have the right reason, and nothing is done twice."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from optimizer.inspection.checklist import checklist
from optimizer.inspection.readiness import Mark
from optimizer.inspection.versions import find_version
from optimizer.job import LadderWish, Outcome, Request, optimize
from optimizer.ladder import decide, workshop
from optimizer.ladder.here import Here
from optimizer.ladder.isolate import End, Ended, Task, isolate
from optimizer.ladder.limits import Limits
from optimizer.options import Options
from optimizer.runs import Verdict
from optimizer.stages.base import Result
from optimizer.store import digest_folder
from server.backends.base import Backends
from server.backends.catalog import find_backends
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.layout import read_version, versions
from server.intake.measure import Effort, Progress
from tests.optimizer.bench import Recorder
from tests.optimizer.ladder import own_steps

EFFORT = Effort(cell_s=0.01, n_least=2, n_most=20)
ALL = ("light", "wrong", "slow", "same", "abort", "fail", "broken", "eat")
NEEDS = "OpenVINO is not installed: pip install it"


class OtherKernels(OnnxRuntimeBackend):
    """A second backend that is really the first, under the name of one that needs a fallback."""

    name = "openvino-f32"
    runtime = "other kernels 1"


class Ladder:
    """A heavy model of four inputs, its repository, and recipes of own steps."""

    def __init__(self, root: Path) -> None:
        self.root, self.repository, self.cache = root, root / "repository", root / "cache"
        self.recorder = Recorder()
        self.other: OnnxRuntimeBackend | None = None
        self.here: Here | None = None

    def prepare(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "tiny.onnx").write_bytes(own_steps.heavy_model())
        shutil.copy(str(own_steps.__file__), self.root / "steps.py")

    def recipe(self, *functions: str, limits: str = 'memory = "1GB"', more: str = "") -> None:
        candidates = [f'[[candidates]]\nname = "{name}"\nsteps = ["steps.py:{name}"]' for name in functions]
        text = f"[limits]\n{limits}\n" + "\n".join([*candidates, more])
        (self.root / "recipe.toml").write_text(text, encoding="utf-8")

    def run(self, *, slo_s: float | None = 0.2, force: bool = False, max_rows: int = 4) -> Outcome:
        self.recorder = Recorder()
        usable = {"onnxruntime": OnnxRuntimeBackend()} | ({"openvino-f32": self.other} if self.other else {})
        wish = LadderWish(self.here or Here(Backends(usable, {"openvino-bf16": NEEDS})), self.root / "recipe.toml")
        options = Options(max_rows=max_rows, effort=EFFORT)
        source = self.root / "tiny.onnx"
        request = Request(source, self.repository, self.cache, slo_s, "ferry optimize …", None, options, force, wish)
        return optimize(request, OnnxRuntimeBackend(), self.recorder)

    @property
    def verdicts(self) -> dict[str, str]:
        """The last word on each candidate: gate and reason, "" where it passed all."""
        return {one.name: f"{one.failed.gate.name}: {one.failed.reason}" if one.failed else "" for one in self.recorder.trials}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ladder, Outcome]:
    """One run with candidates of every kind. Not to be changed by a test."""
    ladder = Ladder(tmp_path_factory.mktemp("ladder") / "own")
    ladder.prepare()
    ladder.recipe(*ALL, more='[[candidates]]\nname = "bf16"\nbackend = "openvino-bf16"\n')
    return ladder, ladder.run()


@pytest.fixture
def ladder(first: tuple[Ladder, Outcome], tmp_path: Path) -> Ladder:
    """A copy of it, to go on from."""
    copied = Ladder(tmp_path / "own")
    shutil.copytree(first[0].root, copied.root)
    return copied


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done in processes of their own from now on."""
    names: list[str] = []

    def counted(task: Task, what: str, folder: Path, limits: Limits, progress: Progress) -> Result:
        names.append(what)
        return isolate(task, what, folder, limits, progress)

    monkeypatch.setattr(workshop, "isolate", counted)
    return names


def test_what_is_published_is_ready_to_be_deployed(first: tuple[Ladder, Outcome]) -> None:
    """`ferry gate` and the ladder agree on what a version is that calculates coarsely by design."""
    ladder, _ = first
    items = checklist(find_version("tiny", ladder.repository), find_backends(), Path("nosuch"))
    assert [f"{item.name}: {item.detail}" for item in items if item.mark is Mark.FAILED] == []


def test_what_was_seen_at_other_sizes_is_not_taken_for_these(ladder: Ladder, tasks: list[str]) -> None:
    """The same file, asked for larger batches: its answers to those were never compared."""
    ladder.recipe("light")
    ladder.run()
    del tasks[:]
    ladder.run()
    assert not [task for task in tasks if "light" in task], "nothing has changed"
    ladder.run(max_rows=3)
    assert "answers of light" in tasks


def test_overrides_that_people_write_are_decided_for(ladder: Ladder) -> None:
    ladder.recipe("light")
    ladder.run()
    ladder.run()
    assert not ladder.recorder.trials, "nothing to decide"
    path = ladder.repository / "tiny" / "model.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("# max_rows = 1", "max_rows = 2"), encoding="utf-8")
    ladder.run()
    assert ladder.recorder.trials


def test_one_is_published_and_all_others_have_their_reason(first: tuple[Ladder, Outcome]) -> None:
    ladder, outcome = first
    verdicts = ladder.verdicts
    assert verdicts.pop("light") == ""
    assert verdicts.pop("wrong").startswith("ANSWERS: mean cosine ")
    slow = r"LOOK: (slower than the plain export at every batch, 0\.|light is at least \d+\.\d+ times as fast at every batch)"
    assert re.match(slow, verdicts.pop("slow")), "both are true; which is seen first is chance on a busy machine"
    assert verdicts == {
        "same": "STEPS: changes nothing: the file is that of the plain export",
        "abort": "STEPS: died of SIGABRT in step steps.py:abort",
        "fail": "STEPS: step steps.py:fail raised ValueError: no such luck",
        "broken": verdicts["broken"],
        "eat": "STEPS: took more than 1 GB in step steps.py:eat",
        "bf16": f"NEEDS: {NEEDS}",
    }
    assert verdicts["broken"].startswith("LOADS: onnxruntime ")
    assert outcome.verdict is Verdict.PUBLISHED
    assert outcome.candidates is not None
    assert outcome.candidates.sentence.startswith("Published: light, because it sustains ")
    assert list((ladder.cache / ".staging").iterdir()) == []


def test_the_winner_is_what_is_served(first: tuple[Ladder, Outcome]) -> None:
    ladder, _ = first
    files = read_version(ladder.repository / "tiny", 1)
    assert files.manifest.backend == "onnxruntime"
    assert files.manifest.fallback is None
    assert [check.name for check in files.manifest.checks] == ["answers", "rows"]
    assert files.profiles is not None
    sessions = [ort.InferenceSession(path) for path in (files.folder / "model.onnx", ladder.root / "tiny.onnx")]
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    mine, original = (session.run(None, {"x": x})[0] for session in sessions)
    assert np.allclose(mine, original, atol=1e-5)
    assert (files.folder / "model.onnx").stat().st_size < 1000
    lines = [json.loads(line) for line in (files.folder / "lineage.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["stage"] for line in lines] == [
        "take", "intake", "calibration data", "step steps.py:light", "answers of light", "profile of light", "publish",
    ]  # fmt: skip
    assert lines[-1]["config"]["published"]["name"] == "light"


def test_the_report_tells_it_all(first: tuple[Ladder, Outcome]) -> None:
    _, outcome = first
    page = outcome.report.read_text(encoding="utf-8").replace("&#39;", "'")
    for verdict in (
        "died of SIGABRT in step steps.py:abort",
        "took more than 1 GB",
        NEEDS,
        "left out what adds nothing; 8 samples",
    ):
        assert verdict in page
    assert "passed every check and was published as light, because it sustains " in page
    data = json.loads((outcome.report.parent / "report.json").read_text(encoding="utf-8"))
    entries = {entry["name"]: entry for entry in data["ladder"]["candidates"]}
    assert list(entries) == ["plain export", *ALL, "bf16"]
    assert entries["light"]["gate"] is None
    assert entries["light"]["rate"] > entries["plain export"]["rate"] > 0
    assert entries["light"]["memory_bytes"] > 1_000_000
    assert entries["plain export"]["gate"] == "rate"
    assert entries["wrong"]["one_row"] is None
    assert page.count("<circle") >= 2


def test_a_second_run_does_nothing(ladder: Ladder, tasks: list[str]) -> None:
    assert ladder.run(slo_s=None).verdict is Verdict.UNCHANGED
    assert (ladder.recorder.done, ladder.recorder.trials, tasks) == ([], [], [])


def test_a_forced_run_measures_nothing_and_tries_again_what_crashed(ladder: Ladder, tasks: list[str]) -> None:
    ladder.recipe("light", "wrong", "fail")
    for number in (2, 3):
        outcome = ladder.run(force=True)
        assert outcome.verdict is Verdict.PUBLISHED
        assert outcome.candidates is not None
        assert outcome.candidates.sentence.startswith("Published: light")
        assert versions(ladder.repository / "tiny")[-1] == number
    assert tasks == ["step steps.py:fail"] * 2


def test_another_objective_decides_anew_but_measures_nothing(ladder: Ladder, tasks: list[str]) -> None:
    ladder.recipe("light", "wrong")
    assert ladder.run().verdict is Verdict.PUBLISHED
    assert ladder.run(slo_s=0.3).verdict is Verdict.UNCHANGED, "the same candidate wins"
    assert ladder.recorder.trials, "it was decided anew"
    assert versions(ladder.repository / "tiny") == [1, 2]
    assert tasks == []


def test_a_deleted_artifact_is_rebuilt_alone(ladder: Ladder, tasks: list[str]) -> None:
    ladder.recipe("light", "wrong")
    ladder.run(force=True)
    assert tasks == []
    step = next(
        path.parent for path in (ladder.cache / "stages").glob("*/files/reproduce.py") if "steps.py:light" in path.read_text()
    )
    shutil.rmtree(step.parent)
    ladder.run(force=True)
    assert tasks == ["step steps.py:light"]


def test_a_script_makes_the_step_again(ladder: Ladder, tmp_path: Path) -> None:
    folder = next(
        path.parent for path in (ladder.cache / "stages").glob("*/files/reproduce.py") if "steps.py:light" in path.read_text()
    )
    material = next((ladder.cache / "stages").glob("*/files/samples.npz")).parent
    command = [
        sys.executable,
        str(folder / "reproduce.py"),
        str(ladder.root / "tiny.onnx"),
        str(material),
        str(tmp_path / "again.onnx"),
    ]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"PYTHONPATH": str(root)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


def test_what_hangs_is_killed_and_the_live_version_stays(ladder: Ladder) -> None:
    before = digest_folder(ladder.repository / "tiny" / "1")
    ladder.recipe("hang", limits='time = "1s"')
    outcome = ladder.run()
    assert ladder.verdicts == {"hang": "STEPS: killed after 1 s in step steps.py:hang"}
    assert outcome.version is not None
    assert outcome.version.version == 2, "the plain export is the best of what this recipe tries"
    assert outcome.candidates is not None
    assert outcome.candidates.sentence == "Published: plain export, because no other candidate passed all gates"
    assert digest_folder(ladder.repository / "tiny" / "1") == before


@pytest.mark.parametrize("at", ["step steps.py:light", "answers of light", "profile of light"])
def test_an_interrupt_publishes_nothing_and_the_next_run_goes_on(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch, tasks: list[str], at: str
) -> None:
    shutil.rmtree(_artifact_of(ladder, at))
    shutil.rmtree(ladder.repository)
    ladder.recipe("light")
    with monkeypatch.context() as patch:
        patch.setattr(workshop, "isolate", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            ladder.run()
    assert not ladder.repository.exists()
    assert list((ladder.cache / ".staging").iterdir()) == []
    assert ladder.run().verdict is Verdict.PUBLISHED
    assert tasks == [at]


def _interrupt(task: Task, what: str, folder: Path, limits: Limits, progress: Progress) -> Result:
    raise KeyboardInterrupt


def _artifact_of(ladder: Ladder, what: str) -> Path:
    text = (ladder.repository / "tiny" / "1" / "lineage.jsonl").read_text(encoding="utf-8")
    key = next(line["key"] for line in map(json.loads, text.splitlines()) if line["stage"] == what)
    return ladder.cache / "stages" / str(key)[:32]


def test_close_finalists_are_measured_in_turns_once(ladder: Ladder, monkeypatch: pytest.MonkeyPatch, tasks: list[str]) -> None:
    monkeypatch.setattr(decide, "CLOSE", 1.0)
    ladder.recipe("light")
    outcome = ladder.run()
    assert tasks == ["the finalists in turns"]
    assert outcome.candidates is not None
    assert re.match(
        r"measured again in turns, 7 rounds: light \d+\.\d\d times the rate of plain export$", outcome.candidates.duel
    )
    plain, light = outcome.candidates.entries
    assert plain.in_turns == 1
    assert light.in_turns is not None
    assert light.in_turns > 1
    assert outcome.candidates.duel in outcome.report.read_text(encoding="utf-8")
    assert '"stage": "the finalists in turns"' in (outcome.report.parent / "lineage.jsonl").read_text(encoding="utf-8")
    again = ladder.run(force=True)
    assert tasks == ["the finalists in turns"], "what was found then is used again"
    assert again.candidates is not None
    assert again.candidates.sentence == outcome.candidates.sentence


def test_where_they_cannot_be_measured_in_turns_their_profiles_decide(ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(task: Task, what: str, folder: Path, limits: Limits, progress: Progress) -> Result:
        if what == "the finalists in turns":
            raise Ended(End.TOO_LARGE, f"took more than 1 GB in {what}", "")
        return isolate(task, what, folder, limits, progress)

    monkeypatch.setattr(workshop, "isolate", failing)
    monkeypatch.setattr(decide, "CLOSE", 1.0)
    ladder.recipe("light")
    outcome = ladder.run()
    assert outcome.verdict is Verdict.PUBLISHED
    assert outcome.candidates is not None
    assert outcome.candidates.duel == (
        "not measured in turns (took more than 1 GB in the finalists in turns): profiles of different minutes decided"
    )  # fmt: skip


def test_another_backend_wins_with_a_fallback(ladder: Ladder) -> None:
    ladder.other = OtherKernels()
    ladder.recipe(more='[[candidates]]\nname = "both"\nsteps = ["steps.py:light"]\nbackend = "openvino-f32"\n')
    outcome = ladder.run()
    assert ladder.verdicts == {"both": ""}
    assert outcome.version is not None
    assert (outcome.version.manifest.backend, outcome.version.manifest.fallback) == ("openvino-f32", "onnxruntime")
    assert outcome.version.fallback_profiles is not None
    assert outcome.version.fallback_profiles.device.runtime.startswith("onnxruntime")
    assert outcome.version.profiles is not None
    assert outcome.version.profiles.device.runtime == "other kernels 1"
