"""The command as a user meets it: exit statuses, messages, and an .onnx file where torch and onnx are not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from optimizer.cli import main
from optimizer.inspection.checklist import checklist
from optimizer.inspection.readiness import Mark
from optimizer.inspection.versions import find_version
from server.backends.catalog import find_backends
from tests.optimizer.bench import LINEAR, Bench

_ROOT = Path(__file__).resolve().parents[2]
_BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Block())
from optimizer.cli import main
status = main(sys.argv[1:])
assert not {{"torch", "onnx"}} & set(sys.modules)
sys.exit(status)
"""


def ferry(*arguments: object, blocked: tuple[str, ...] = ("torch", "onnx", "onnxscript")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", _BLOCKED.format(blocked=blocked), *map(str, arguments)]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def published(bench: Bench) -> Bench:
    bench.write(LINEAR)
    bench.run()
    return bench


def test_an_onnx_file_needs_neither_torch_nor_onnx(published: Bench, tmp_path: Path) -> None:
    model = published.repository / "tiny" / "1" / "model.onnx"
    arguments = (model, "--slo", "20ms", "--name", "again", "--max-rows", 2, "--repository", published.repository)
    first = ferry(*arguments)
    assert first.returncode == 0, first.stderr
    assert "published version 1 of again" in first.stdout
    assert "next: ferry serve --repository" in first.stdout
    manifest = json.loads((published.repository / "again" / "1" / "manifest.json").read_text())
    assert manifest["max_rows"] == 2
    items = checklist(find_version("again", published.repository), find_backends(), tmp_path / "nosuch")
    assert [item.name for item in items if item.mark is Mark.FAILED] == [], "nothing was changed, so nothing is wrong"
    assert "quality: original: model.onnx as it was given, unchanged" in [f"{item.name}: {item.detail}" for item in items]
    second = ferry(*arguments)
    assert second.returncode == 0
    assert "unchanged: version 1 of again" in second.stdout


def test_an_unchanged_python_file_needs_no_torch(bench: Bench) -> None:
    bench.write(LINEAR)
    flags = [str(bench.source), "--repository", str(bench.repository), "--slo", "20ms"]
    assert main(flags) == 0
    again = ferry(*flags, blocked=())
    assert again.returncode == 0, again.stderr
    assert "unchanged" in again.stdout


def test_what_is_no_onnx_file_is_rejected_with_a_report(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    result = ferry(path, "--slo", "20ms", "--repository", tmp_path / "repository")
    assert result.returncode == 1
    assert "not published: broken failed at take" in result.stdout
    report = next(line for line in result.stdout.splitlines() if line.startswith("report: "))
    assert Path(report.removeprefix("report: ")).exists()
    assert not (tmp_path / "repository").exists()


def test_a_missing_tool_is_named(bench: Bench) -> None:
    bench.write(LINEAR)
    result = ferry(bench.source, "--slo", "20ms", "--repository", bench.repository, blocked=("rich",))
    assert result.returncode == 2
    assert result.stderr == "ferry optimize: rich is not installed: pip install rich jinja2\n"


def test_a_bad_file_is_one_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(LINEAR.replace("def build", "def make"))
    assert main([str(bench.source), "--repository", str(bench.repository), "--slo", "20ms"]) == 2
    assert capsys.readouterr().err.startswith(f"ferry optimize: {bench.source}: build() is missing; define: def build()")


def test_a_recipe_and_none_at_once(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(LINEAR)
    assert main([str(bench.source), "--slo", "20ms", "--plain", "--recipe", "recipe.toml"]) == 2
    assert "--plain tries no candidates, --recipe says which to try; give one of the two" in capsys.readouterr().err


def test_a_wrong_recipe_is_one_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(LINEAR)
    bench.write("[gates]\nmax_los = 1\n", "recipe.toml")
    assert main([str(bench.source), "--slo", "20ms", "--recipe", str(bench.folder / "recipe.toml")]) == 2
    assert "recipe.toml: gates: unknown field 'max_los'; the known fields are max_bytes," in capsys.readouterr().err


def test_an_objective_out_of_reach_is_said_loudly(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(LINEAR)
    assert main([str(bench.source), "--repository", str(bench.repository), "--slo", "0.001us"]) == 0
    assert "WARNING: the objective of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--slo", "20"], "is not a duration"),
        (["--lengths", "9:3"], "is not SHORTEST:LONGEST"),
        (["--pad", "ids"], "is not INPUT=VALUE"),
        (["--max-rows", "0"], "is not a positive whole number"),
        (["--recipe"], "expected one argument"),
    ],
)
def test_bad_flags(flags: list[str], wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["model.py", *flags])
    assert stop.value.code == 2
    assert wanted in capsys.readouterr().err
