"""What an optimizer is: what to install, and its recipes as the commands that its own documentation gives. Nothing is run here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent / "scripts"
ROOT = Path(__file__).resolve().parents[2]
"""What the tools' interpreters need on their path to import the examples."""

CNNS, ENCODERS = ("digits", "resnet18"), ("minilm",)


@dataclass(frozen=True, slots=True)
class Work:
    """What a recipe has to work with. `model`: its name; `plain`: the exported .onnx file that ferry's optimizer starts from; `rows`: an
    .npz file with each input as an array [n, …], of models whose rows are all alike; `weights`: the folder of a published network, where
    the model is one; `python`: the tool's interpreter. Commands run in a folder that is empty before."""

    model: str
    plain: Path
    rows: Path | None
    weights: Path | None
    python: Path

    def tool(self, name: str) -> str:
        """A command of the tool's environment."""
        return str(self.python.parent / name)

    def script(self, name: str, *arguments: str | Path) -> list[str]:
        """The command that runs one of the scripts here."""
        return [str(self.python), str(SCRIPTS / name), *(str(one) for one in arguments)]


@dataclass(frozen=True, slots=True)
class Steps:
    """Commands, one after the other, and the file that they leave. `files`: what has to be there before, by name, as JSON."""

    commands: Sequence[Sequence[str]]
    product: str
    files: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to use a tool. `says`: what it does, for people; `steps`: how, for one model of `models`."""

    name: str
    says: str
    models: tuple[str, ...]
    steps: Callable[[Work], Steps]


@dataclass(frozen=True, slots=True)
class Tool:
    """An optimizer. `environment`: variables that it wants; `cannot`: what it does not do here, and why, for people."""

    name: str
    label: str
    package: str
    requirements: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cannot: tuple[str, ...] = ()

    def for_model(self, model: str) -> list[Recipe]:
        """The recipes that make sense for it."""
        return [one for one in self.recipes if model in one.models]


def described(tool: Tool) -> dict[str, Any]:
    """A tool as values for JSON."""
    recipes = [{"name": one.name, "models": list(one.models), "says": one.says} for one in tool.recipes]
    return {"label": tool.label, "requirements": list(tool.requirements), "recipes": recipes, "cannot": list(tool.cannot)}
