"""The verb `doctor`: what this machine and installation can serve, what is missing and why, and what would serve each version of a
repository. Loads no model."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from server import __version__
from server.backends.base import Backends, LoadError, Picked
from server.backends.catalog import find_backends
from server.backends.decoding import find_decoder
from server.backends.hf_tokenizers import HfTokenizers
from server.backends.nvidia import Cards, find_cards
from server.contract.device import Device, this_device
from server.contract.errors import ContractError
from server.contract.layout import VersionFiles, model_names, read_version, versions
from server.core.lifecycle import version_to_serve

_INDENT = "  "


class DoctorVerb:
    """`ferry doctor`."""

    help = "tell what can be served here, by which library, and what is missing"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--repository", type=Path, metavar="FOLDER",
            help="a model repository: tell for each version what would serve it here; exit status 1 if one could not be served",
        )  # fmt: skip

    def run(self, args: argparse.Namespace) -> int:
        repository: Path | None = args.repository
        if repository is not None and not repository.is_dir():
            print(f"no folder {repository}")
            return 2
        backends = find_backends()
        for line in (*describe_machine(this_device("")), *describe_cards(find_cards()), *describe_backends(backends)):
            print(line)
        if repository is None:
            return 0
        found = list(diagnose(repository, backends))
        for line in describe_repository(repository, found):
            print(line)
        return 1 if any(one.is_problem for one in found) else 0


class Diagnosis(NamedTuple):
    """What would happen to one version here. `is_newest`: it is the one that a server serves. `is_problem`: it cannot be served."""

    version: str
    is_newest: bool
    verdict: str
    is_problem: bool


def describe_machine(device: Device) -> Iterator[str]:
    """What ferry runs on."""
    yield f"ferry {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield f"processor: {device.processor}, {device.cores} cores for this process, {memory_bytes / 1e9:.1f} GB of memory"


def describe_cards(cards: Cards) -> Iterator[str]:
    """Each graphics card, or why there is none."""
    for card in cards.found:
        yield f"card {card.bus_id}: {card.accelerator}, {card.memory_bytes / 1e9:.1f} GB of memory"
    if cards.reason:
        yield f"no NVIDIA card: {cards.reason}"


def describe_backends(backends: Backends) -> Iterator[str]:
    """Each library that ferry knows, and for those that cannot be used here, what to do about it."""
    width = max(len(name) for name in (*backends.usable, *backends.decoders, *backends.missing))
    yield "backends:"
    for name, backend in backends.usable.items():
        on = f" on {backend.accelerator.name}" if backend.accelerator else ""
        yield f"{_INDENT}{name:{width}}  usable: {backend.runtime}{on}"
    for name, decoder in backends.decoders.items():
        yield f"{_INDENT}{name:{width}}  usable: {decoder.runtime}, for models that generate"
    for name, reason in backends.missing.items():
        yield f"{_INDENT}{name:{width}}  missing: {reason}"


def describe_repository(repository: Path, found: list[Diagnosis]) -> Iterator[str]:
    """One line for each version, and how many cannot be served."""
    yield f"{repository}:"
    if not found:
        yield f"{_INDENT}no version; publish one with `ferry optimize`"
        return
    for one in found:
        mark = "PROBLEM " if one.is_problem else ""
        older = "" if one.is_newest else " (an older version)"
        yield f"{_INDENT}{mark}{one.version}{older}: {one.verdict}"
    n_problems = sum(one.is_problem for one in found)
    yield f"{n_problems} of {len(found)} versions cannot be served here" if n_problems else "every version can be served here"


def diagnose(repository: Path, backends: Backends) -> Iterator[Diagnosis]:
    """Every version of every model, in order. A model without any version is a problem, too: the server would refuse to load it."""
    for name in model_names(repository):
        numbers = versions(repository / name)
        newest = version_to_serve(numbers)
        if newest is None:
            yield Diagnosis(name, True, "has no version; publish one with `ferry optimize`, or remove the folder", True)
        for version in numbers:
            place = f"{name}/{version}"
            try:
                verdict = _served_by(read_version(repository / name, version), backends)
                yield Diagnosis(place, version == newest, verdict, False)
            except (ContractError, LoadError) as error:
                yield Diagnosis(place, version == newest, str(error).removeprefix(f"{place}: "), True)


def _served_by(files: VersionFiles, backends: Backends) -> str:
    """In words. Raises ContractError or LoadError where it cannot be served."""
    generation = files.manifest.generation
    if generation is None:
        return _verdict(backends.pick(files))
    decoder = find_decoder(backends.decoders, files)
    HfTokenizers().codec(files.folder, generation)
    steps = files.steps
    difference = steps.device.difference(this_device(decoder.runtime)) if steps else "no steps were measured"
    measured = (
        "its steps were measured on this machine" if difference is None else f"measured before it serves, for {difference}"
    )
    return f"served by {decoder.name}; {measured}"


def _verdict(picked: Picked) -> str:
    """By what, instead of what, and by whose profile. Raises LoadError when its tokenizer cannot be used."""
    files, backend = picked.files, picked.backend
    _try_tokenizer(files)
    by = f"served by {backend.name}"
    if picked.instead is not None:
        by += f", its slower fallback: {picked.instead}"
    return f"{by}; {_whose_profile(files, this_device(backend.runtime, backend.accelerator))}"


def _try_tokenizer(files: VersionFiles) -> None:
    text, ragged = files.manifest.text, files.manifest.ragged
    if text is not None and ragged is not None:
        HfTokenizers().load(files.folder / text.tokenizer, ragged.longest)


def _whose_profile(files: VersionFiles, device: Device) -> str:
    if files.profiles is None:
        return "no profile: it is measured while it serves"
    difference = files.profiles.device.difference(device)
    return "its profile is of this machine" if difference is None else f"measured again while it serves, for {difference}"
