"""A decoder's recipe: which smaller candidates to try and what they must keep, from a TOML file that a human writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from optimizer.decoder.trial import SMALLER, Candidate, Gates
from optimizer.decoder.wish import Wish
from optimizer.recipe_file import limits_of, read_fields, share
from server.contract.fields import Fields


def with_recipe(wish: Wish, path: Path) -> Wish:
    """The wish, and what the file says: `gates` (`max_rise`, `min_top1`), `limits` (`time`, `memory`), `candidates` by name.

    Raises ContractError naming file and field.
    """
    fields = read_fields(path)
    fields.only(("gates", "limits", "candidates"))
    if fields.has("gates"):
        wish = replace(wish, gates=_gates(fields.child("gates"), wish.gates))
    if fields.has("limits"):
        wish = replace(wish, limits=limits_of(fields.child("limits"), wish.limits))
    if fields.has("candidates"):
        wish = replace(wish, candidates=_candidates(fields))
    return wish


def _gates(fields: Fields, usual: Gates) -> Gates:
    fields.only(("max_rise", "min_top1"))
    return Gates(
        max_rise=fields.number("max_rise") if fields.has("max_rise") else usual.max_rise,
        min_top1=share(fields, "min_top1", usual.min_top1),
    )


def _candidates(fields: Fields) -> tuple[Candidate, ...]:
    known = {one.name: one for one in SMALLER}
    names = fields.items("candidates")
    unknown = next((name for name in names if name not in list(known)), None)
    if unknown is not None:
        raise fields.wrong("candidates", f"knows {' and '.join(known)}, found {unknown!r}; the plain export is always tried")
    if not names:
        raise fields.wrong("candidates", "must name at least one; leave it out for all, or say --plain for none")
    return tuple(known[name] for name in known if name in names)
