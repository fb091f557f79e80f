"""A recipe: what to try and what must be kept, from a TOML file that a human writes. Read strictly; nothing is tried here."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from optimizer.ladder.candidate import OWN, PLAIN, Candidate, Step
from optimizer.ladder.families import ENGINES
from optimizer.ladder.gates import MIN_EDGE_COSINE, MIN_SAME_NEIGHBOUR, Gates
from optimizer.ladder.limits import TIME_S, Limits, usual_memory_bytes
from optimizer.ladder.steps import find_step
from optimizer.recipe_file import limits_of, n_bytes, read_fields, share
from optimizer.tensorrt.build import Products
from server.contract.fields import Fields

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """`candidates` None: the default ones for such a graph."""

    gates: Gates
    limits: Limits = field(default_factory=lambda: Limits(TIME_S, usual_memory_bytes()))
    candidates: tuple[Candidate, ...] | None = None

    def config(self) -> dict[str, Any]:
        """All of it as JSON, for the key of a run."""
        tried = None if self.candidates is None else [candidate.config() for candidate in self.candidates]
        return {"gates": asdict(self.gates), "limits": asdict(self.limits), "candidates": tried}


def usual_recipe(max_loss: float) -> Recipe:
    """The default candidates under the usual gates. `max_loss`: in points of the score."""
    return Recipe(Gates(max_loss))


def read_recipe(path: Path, max_loss: float, backends: Collection[str]) -> Recipe:
    """`max_loss`: where the file does not say. `backends`: the names that exist, usable here or not.

    Raises ContractError naming file and field, and SourceError for a transform's file that cannot be read.
    """
    fields = read_fields(path)
    fields.only(("gates", "limits", "candidates"))
    gates = _gates(fields.child("gates"), max_loss) if fields.has("gates") else Gates(max_loss)
    recipe = Recipe(gates)
    if fields.has("limits"):
        recipe = replace(recipe, limits=limits_of(fields.child("limits"), recipe.limits))
    if fields.has("candidates"):
        recipe = replace(recipe, candidates=_candidates(fields, path.resolve().parent, backends))
    return recipe


def _gates(fields: Fields, max_loss: float) -> Gates:
    cosines = ("min_cosine", "min_worst_cosine", "min_edge_cosine", "min_slice_cosine")
    fields.only(("max_loss", *cosines, "min_same_neighbour", "max_slice_changes", "max_bytes", "max_memory"))
    edge = _cosine(fields, "min_edge_cosine")
    return Gates(
        max_loss=fields.number("max_loss") if fields.has("max_loss") else max_loss,
        min_cosine=_cosine(fields, "min_cosine"),
        min_worst_cosine=_cosine(fields, "min_worst_cosine"),
        min_edge_cosine=MIN_EDGE_COSINE if edge is None else edge,
        min_same_neighbour=share(fields, "min_same_neighbour", MIN_SAME_NEIGHBOUR),
        min_slice_cosine=_cosine(fields, "min_slice_cosine"),
        max_slice_changes=fields.number("max_slice_changes") if fields.has("max_slice_changes") else None,
        max_bytes=n_bytes(fields, "max_bytes") if fields.has("max_bytes") else None,
        max_memory_bytes=n_bytes(fields, "max_memory") if fields.has("max_memory") else None,
    )


def _cosine(fields: Fields, key: str) -> float | None:
    if not fields.has(key):
        return None
    value = fields.number(key, -1.0)
    if value >= 1:
        raise fields.wrong(key, f"must be below 1, which only equal answers reach; write one like 0.999, found {value:g}")
    return value


def _candidates(fields: Fields, folder: Path, backends: Collection[str]) -> tuple[Candidate, ...]:
    found = [_candidate(one, folder, backends) for one in fields.children("candidates")]
    _check_distinct(fields, found)
    return tuple(found)


def _candidate(fields: Fields, folder: Path, backends: Collection[str]) -> Candidate:
    fields.only(("name", "steps", "backend", "products"))
    name = fields.text("name")
    if not _NAME.fullmatch(name):
        raise fields.wrong("name", f"must be 1 to 64 letters, digits, blanks and . _ + -, found {name!r}")
    steps = tuple(_step(fields, number, folder) for number in range(len(fields.items("steps")))) if fields.has("steps") else ()
    backend = fields.text("backend") if fields.has("backend") else OWN
    if backend not in backends:
        raise fields.wrong("backend", f"must be one of {', '.join(sorted(backends))}; found {backend!r}")
    if not steps and backend == OWN:
        raise fields.wrong("steps", f"must name a step, or backend another one than {OWN!r}: this is the plain export itself")
    return Candidate(name, steps, backend, "in the recipe", _products(fields, backend))


def _products(fields: Fields, backend: str) -> Products | None:
    """Only engines are built; TF32 is what the library itself does unless it is told otherwise."""
    known = [one.value for one in Products]
    if backend != ENGINES:
        if fields.has("products"):
            raise fields.wrong(
                "products", f"is for engines, of the backend {ENGINES!r}; leave it out, found backend {backend!r}"
            )
        return None
    value = fields.text("products") if fields.has("products") else Products.TF32.value
    if value not in known:
        raise fields.wrong("products", f"must be one of {', '.join(known)}; found {value!r}")
    return Products(value)


def _step(fields: Fields, number: int, folder: Path) -> Step:
    """Either a name, or a table of `step` and its options."""
    item = fields.items("steps")[number]
    where = f"{fields.where}: steps[{number}]"
    if isinstance(item, str):
        return find_step(item, {}, folder, where)
    name = Fields(item, where).text("step")
    return find_step(name, {key: value for key, value in item.items() if key != "step"}, folder, where)


def _check_distinct(fields: Fields, found: Sequence[Candidate]) -> None:
    names = [candidate.name for candidate in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or PLAIN.name in names:
        raise fields.wrong("candidates", f"must have distinct names, and none {PLAIN.name!r}; found {twice or PLAIN.name!r}")
    if not found:
        raise fields.wrong("candidates", "must name at least one; leave it out for the default ones, or say --plain for none")
