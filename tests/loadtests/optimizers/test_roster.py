"""Every tool can be installed the same way again, and every recipe says what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.errors import MissingData
from loadtests.optimizers.roster import TOOLS
from loadtests.optimizers.tool import SCRIPTS, Recipe, Tool, Work, described
from loadtests.side_by_side import TERMS

ALL = [(tool, recipe, model) for tool in TOOLS for recipe in tool.recipes for model in recipe.models]


def work(model: str) -> Work:
    return Work(model, Path("/in/model.onnx"), Path("/in/rows.npz"), Path("/weights"), Path("/venv/bin/python"))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_requirements_are_pinned(tool: Tool) -> None:
    assert all("==" in one for one in tool.requirements)
    assert f"{tool.package}==" in " ".join(tool.requirements)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@pytest.mark.parametrize("model", TERMS)
def test_a_model_has_recipes_of_different_names(tool: Tool, model: str) -> None:
    names = [one.name for one in tool.for_model(model)]
    assert len(names) == len(set(names)) >= 2


@pytest.mark.parametrize(("tool", "recipe", "model"), ALL, ids=lambda one: getattr(one, "name", one))
def test_a_recipe_runs_its_own_tool_and_scripts_that_exist(tool: Tool, recipe: Recipe, model: str) -> None:
    steps = recipe.steps(work(model))
    assert steps.commands
    assert steps.product.endswith(".onnx")
    for command in steps.commands:
        assert command[0].startswith("/venv/bin/")
        assert all(Path(word).exists() for word in command if word.startswith(str(SCRIPTS)))


def test_olive_calibrates_on_the_rows() -> None:
    (recipe,) = [one for one in TOOLS[0].for_model("digits") if one.name == "static int8"]
    (rows,) = recipe.steps(work("digits")).files["workflow.json"]["data_configs"]
    assert rows["load_dataset_config"]["file"] == "/in/rows.npz"


def test_optimum_exports_published_networks_only() -> None:
    (recipe,) = [one for one in TOOLS[1].for_model("minilm") if one.name == "O2"]
    with pytest.raises(MissingData, match="no folder of weights"):
        recipe.steps(Work("minilm", Path("/in/model.onnx"), None, None, Path("/venv/bin/python")))


def test_what_is_told_names_every_recipe() -> None:
    assert [one["name"] for one in described(TOOLS[1])["recipes"]] == [one.name for one in TOOLS[1].recipes]
