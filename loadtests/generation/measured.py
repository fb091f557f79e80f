"""What each scene of the benchmark of generating servers finds: the part of its result file."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from loadtests.child import Child
from loadtests.errors import LoadTestError
from loadtests.generation import company, scenes
from loadtests.generation.claims import ENGINE, ENGINE_STATIC, median_ratio
from loadtests.generation.joining import Joining
from loadtests.generation.options import Options
from loadtests.generation.programs import GENERATORS, CannotRun, Generator, Program
from loadtests.generation.streams import Ask, Asked, ask
from loadtests.generation.work import LONGEST_ANSWER, Work, usual
from loadtests.overload import Offer

LONG_PROMPT, BUSY = 300, 0.66
IN_PROCESS = (
    Generator(ENGINE, "tests.measure.generation_engine", "ferry"),
    Generator(ENGINE_STATIC, "tests.measure.generation_static", "ferry"),
)
ENCODER_SLO_S = 0.05
_GAPS, _MOST_TRIES = 3, 3
"""For each round so many long prompts, as a longest gap scatters more than a rate; and so many times as many may be needed."""


def _asking(server: Child, model: str) -> Ask:
    return partial(ask, server.port, model)


def once(
    options: Options, server: Child, work: Work, joining: Joining = Joining.CONTINUOUS, model: str = "patient"
) -> tuple[float, list[str]]:
    """The work all at once: the seconds it took, and the answers."""
    return scenes.backlog(_asking(server, model), work, joining, options.slots)


def backlog(options: Options, python: Path, made: Any, server: Child, work: Work) -> dict[str, Any]:
    """All at once: ferry over HTTP, its waves and static batches, its engine without a network, and the other generators, in turns."""
    tokenizer = Tokenizer.from_file(str(made["checkpoint"] / "tokenizer.json"))
    seconds: dict[str, list[float]] = {joining.value: [] for joining in Joining}
    texts: dict[str, list[Sequence[str]]] = {}
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        programs = []
        for generator in [*IN_PROCESS, *[one for one in GENERATORS if one.short_name in options.peers]]:
            try:
                interpreter = Path(sys.executable) if generator in IN_PROCESS else python
                program = Program(interpreter, generator, made[generator.form], work, options.slots, options.threads)
                programs.append(stack.enter_context(program))
                seconds[generator.name] = []
            except CannotRun as error:
                absent[generator.name] = str(error)
                print(f"left out: {error}", flush=True)
        once(options, server, work)
        for at in range(options.rounds):
            for joining in Joining:
                took_s, found = once(options, server, work, joining)
                texts.setdefault(joining.value, []).append(found)
                seconds[joining.value].append(took_s)
            for program in programs:
                took_s, answers = program.run()
                texts.setdefault(program.generator.name, []).append([tokenizer.decode(ids) for ids in answers])
                seconds[program.generator.name].append(took_s)
            print(f"  round {at + 1} of {options.rounds}", flush=True)
    return beside(seconds, texts, work, options.slots) | {"left_out": absent}


def beside(
    seconds: Mapping[str, Sequence[float]], texts: Mapping[str, Sequence[Sequence[str]]], work: Work, slots: int
) -> dict[str, Any]:
    """What of it goes into the result. Only tokens that were wanted count, whoever calculated more.

    All answers of all rounds are compared with ferry's first ones, ferry's own later ones too; the round with the fewest alike counts.
    """
    ours, static = Joining.CONTINUOUS.value, Joining.STATIC.value
    wanted = texts[ours][0]
    same = {
        name: [scenes.alike(wanted, one, Joining.STATIC if name == static else Joining.CONTINUOUS) for one in found]
        for name, found in texts.items()
    }
    per_s = {name: [work.n_tokens / one for one in taken] for name, taken in seconds.items()}
    ratios = {name: median_ratio(per_s[ours], found) for name, found in per_s.items()}
    return {
        "tokens_per_s": per_s,
        "ferry_over": ratios,
        "same_answers": {name: min(shares) for name, shares in same.items()},
        "same_answers_by_round": same,
        "engine_over_static": median_ratio(per_s[ENGINE], per_s[ENGINE_STATIC]),
        "row_step_ceiling": work.ceiling(slots),
    }


def chosen(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    """What `ferry optimize` chose beside the plain export, in turns on one server, with the same slots and threads."""
    work = usual(options.requests, seed=1)
    found: dict[str, list[float]] = {"patient": [], "chosen": []}
    for at in range(options.rounds + 1):
        for model, per_second in found.items():
            took_s, _ = once(options, server, work, model=model)
            if at:  # the first ones allocate and plan
                per_second.append(work.n_tokens / took_s)
    told = json.loads((options.work / "repository" / "chosen" / "1" / "report.json").read_text())
    tried = {one["name"]: one for one in told["candidates"]}
    plain, chosen = tried["fp32"], tried[told["published"]]
    return {
        "headline": told["headline"],
        "compared_on": told["compared_on"],
        "candidate": {key: chosen[key] for key in ("name", "n_bytes", "perplexity", "top1", "kl")},
        "tokens_per_s": {"plain": found["patient"], "chosen": found["chosen"]},
        "over_plain": median_ratio(found["chosen"], found["patient"]),
        "times_smaller": plain["n_bytes"] / chosen["n_bytes"],
    }


def arrivals(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    """Requests that come one by one, at a rate that static batches just carry."""
    work = usual(options.arrivals, seed=2)
    rate = BUSY * per_s / (work.n_tokens / len(work.prompts))
    rounds = []
    for seed in range(options.rounds):
        asking = _asking(server, "patient")
        answers = {one: scenes.arrivals(asking, work, rate, one, options.slots, seed) for one in Joining}
        texts = {joining: [answer.text for answer in found] for joining, found in answers.items()}
        wanted = texts[Joining.CONTINUOUS]
        rounds.append({
            joining.value: {**asdict(scenes.pace(found, wanted)), "same_answers": scenes.alike(wanted, texts[joining], joining)}
            for joining, found in answers.items()
        })  # fmt: skip
    ratios = {
        joining.value: {
            key: statistics.median(one[joining.value][key] / one[Joining.CONTINUOUS.value][key] for one in rounds)
            for key in ("first_p50_s", "first_p95_s", "whole_p50_s")
        }
        for joining in (Joining.STATIC, Joining.WAVES)
    }
    return {"rate": rate, "rounds": rounds, "over_ferry": ratios}


def gap(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    """A long prompt that comes while all other slots decode. Raises LoadTestError where that could not be made often enough."""
    asking = _asking(server, "even")
    work = usual(options.slots - 1, seed=3)
    rows = Work(work.prompts, [LONGEST_ANSWER] * len(work.prompts))
    n_gaps = _GAPS * options.rounds
    n_tries = _MOST_TRIES * n_gaps
    longs = usual(n_tries, seed=4, prompt=LONG_PROMPT).prompts  # one that came before would not be read again
    for _ in range(2):  # so that it knows its steps on this machine; in a slow moment it may refuse some of these too
        with suppress(LoadTestError):
            scenes.backlog(asking, rows, Joining.CONTINUOUS, options.slots)
    found: list[scenes.Gap] = []
    refused: list[str] = []
    for long in longs:
        try:
            found.append(scenes.long_prompt(asking, scenes.asked(rows, counts=True), Asked(long, 8)))
        except LoadTestError as error:  # in a slow moment the server rightly takes on fewer than the scene is about
            refused.append(str(error))
        if len(found) == n_gaps:
            break
    else:
        raise LoadTestError(f"{len(refused)} of {n_tries} tries failed: {refused[0]}")
    ratio = statistics.median(one.worst_s / one.plain_s for one in found)
    return {
        "objective_s": options.small_gap,
        "rounds": [asdict(one) for one in found],
        "worst_over_plain": ratio,
        "failed_tries": refused,
    }


def overload(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    """Below, at and far above the capacity."""
    asking = _asking(server, "prompt")
    each = usual(1000, seed=5)
    capacity = per_s / (each.n_tokens / len(each.prompts))
    found = {}
    for load in (0.7, 0.9, 1.0, 3.0):
        rate = load * capacity
        work = usual(round(rate * options.load_s), seed=6)
        found[f"{load:g}"] = asdict(scenes.overload(asking, work, rate, options.slo, options.gap, seed=7))
    peak = max(one["tokens_per_s"] for load, one in found.items() if load != "3")
    return {"capacity_per_s": capacity, "loads": found, "kept_at_3": found["3"]["tokens_per_s"] / peak}


def side_by_side(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    """An encoder beside the decoder, on one server."""
    each = usual(1000, seed=8)
    rate = company.SHARE * per_s / (each.n_tokens / len(each.prompts))
    encoder_per_s = company.capacity(server)
    rounds = []
    for seed in range(options.rounds):
        work = usual(max(1, round(rate * options.load_s)), seed=9 + seed)
        talk = company.Talk(_asking(server, "prompt"), work, rate, options.slo, options.gap)
        offer = Offer(company.SHARE * encoder_per_s, ENCODER_SLO_S, options.load_s, seed)
        rounds.append(company.company(server, talk, offer))
    return {
        "share": company.SHARE,
        "encoder_per_s": encoder_per_s,
        "encoder_slo_s": ENCODER_SLO_S,
        "decoder_rate": rate,
        "rounds": rounds,
    }
