"""A recipe says what it means, or which field is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.errors import SourceError
from optimizer.ladder.gates import Gates
from optimizer.ladder.limits import Limits
from optimizer.ladder.recipe import Recipe, read_recipe, usual_recipe
from optimizer.tensorrt.build import Products
from server.contract.errors import ContractError

BACKENDS = ("onnxruntime", "openvino-bf16", "tensorrt")
CANDIDATE = '[[candidates]]\nname = "a"\nsteps = ["mine.py:halve"]\n'


def read(folder: Path, text: str) -> Recipe:
    (folder / "mine.py").write_text("def halve(model, output, material, options): ...\n", encoding="utf-8")
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return read_recipe(folder / "recipe.toml", 0.7, BACKENDS)


def test_all_of_it(tmp_path: Path) -> None:
    recipe = read(tmp_path, """
[gates]
max_loss = 1
min_cosine = 0.99
min_worst_cosine = 0.9
min_edge_cosine = 0.8
min_same_neighbour = 0.9
min_slice_cosine = 0.95
max_slice_changes = 5
max_bytes = "1.5MB"
max_memory = "2GB"
[limits]
time = "90s"
memory = "500MB"
[[candidates]]
name = "own"
steps = ["mine.py:halve", {step = "mine.py:halve", by = 3}]
backend = "openvino-bf16"
[[candidates]]
name = "kernels"
backend = "openvino-bf16"
""")  # fmt: skip
    assert recipe.gates == Gates(1.0, 0.99, 0.9, 0.8, 0.9, 0.95, 5.0, 1_500_000, 2_000_000_000)
    assert recipe.limits == Limits(90.0, 500_000_000)
    assert recipe.candidates is not None
    own, kernels = recipe.candidates
    assert [(step.name, step.options, step.function) for step in own.steps] == [
        ("mine.py:halve", {}, "halve"), ("mine.py:halve", {"by": 3}, "halve"),
    ]  # fmt: skip
    assert own.steps[0].file == tmp_path / "mine.py"
    assert (own.backend, kernels.steps, kernels.backend) == ("openvino-bf16", (), "openvino-bf16")


def test_an_engine_says_what_its_products_are_calculated_in(tmp_path: Path) -> None:
    engine = '[[candidates]]\nname = "{0}"\nbackend = "tensorrt"\n{1}'
    recipe = read(tmp_path, engine.format("usual", "") + engine.format("exact", 'products = "f32"\n') + CANDIDATE)
    assert recipe.candidates is not None
    assert [one.products for one in recipe.candidates] == [Products.TF32, Products.F32, None]
    assert ["products" in one.config() for one in recipe.candidates] == [True, True, False]


def test_nothing_means_the_usual(tmp_path: Path) -> None:
    recipe = read(tmp_path, "")
    assert recipe == usual_recipe(0.7)
    assert (recipe.gates, recipe.candidates) == (Gates(0.7), None)


def test_the_code_of_a_step_is_in_the_key(tmp_path: Path) -> None:
    before = read(tmp_path, CANDIDATE).config()
    assert read(tmp_path, CANDIDATE).config() == before
    recipe = tmp_path / "recipe.toml"
    (tmp_path / "mine.py").write_text("def halve(*_): return None\n", encoding="utf-8")
    assert read_recipe(recipe, 0.7, BACKENDS).config() != before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[gate]", r"recipe.toml: unknown field 'gate'; the known fields are candidates, gates, limits"),
        ("[gates]\nmax_los = 1", r"recipe.toml: gates: unknown field 'max_los'"),
        ("[gates]\nmax_loss = '1'", r"gates: field 'max_loss' must be a number, found a string"),
        ("[gates]\nmin_cosine = 1.0", r"gates: field 'min_cosine' must be below 1"),
        ("[gates]\nmin_same_neighbour = 98", r"field 'min_same_neighbour' must be a share of 1; write one like 0.98, found 98"),
        ("[gates]\nmax_bytes = '30'", r"gates: field 'max_bytes' must be a positive size with a unit of B, kB, MB, GB"),
        ("[gates]\nmax_bytes = 30", r"gates: field 'max_bytes' must be a string in quotes"),
        ("[limits]\ntime = '5'", r"limits: time: '5' is not a duration"),
        ("candidates = []", r"'candidates' must name at least one; leave it out for the default ones, or say --plain for none"),
        ('[[candidates]]\nsteps = ["mine.py:halve"]', r"candidates\[0\]: field 'name' is missing"),
        ('[[candidates]]\nname = "a/b"', r"candidates\[0\]: field 'name' must be 1 to 64 letters"),
        ('[[candidates]]\nname = "a"', r"candidates\[0\]: field 'steps' must name a step, or backend another one"),
        (CANDIDATE + "backend = 'tpu'", r"candidates\[0\]: field 'backend' must be one of onnxruntime, openvino-bf16, tensorrt; found 'tpu'"),
        (CANDIDATE + "products = 'f32'", r"field 'products' is for engines, of the backend 'tensorrt'; leave it out, found backend 'onnxruntime'"),
        (CANDIDATE + "backend = 'tensorrt'\nproducts = 'f16'", r"field 'products' must be one of f32, tf32; found 'f16'"),
        (CANDIDATE + CANDIDATE, r"field 'candidates' must have distinct names, and none 'plain export'; found 'a'"),
        ('[[candidates]]\nname = "a"\nsteps = ["halve"]', r"candidates\[0\]: steps\[0\]: there is no transform 'halve'; there are fuse, "),
        ('[[candidates]]\nname = "a"\nsteps = ["mine.py:2"]', r"steps\[0\]: 'mine.py:2' is not file.py:function"),
        ('[[candidates]]\nname = "a"\nsteps = [{by = 2}]', r"steps\[0\]: field 'step' is missing"),
        ('[[candidates]]\nname = "a"\nsteps = [3]', r"steps\[0\]: expected an object, found an integer"),
        ("gates", r"recipe.toml: not valid TOML"),
    ],
)  # fmt: skip
def test_errors_name_file_and_field(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ContractError, match=says) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "recipe.toml"))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"recipe.toml: no such file; give a recipe, or leave --recipe out"):
        read_recipe(tmp_path / "recipe.toml", 0.5, BACKENDS)
    with pytest.raises(SourceError, match=r"gone.py: cannot be read"):
        read(tmp_path, CANDIDATE.replace("mine", "gone"))
