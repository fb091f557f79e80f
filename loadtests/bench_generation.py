"""`python -m loadtests.bench_generation`: continuous batching beside static batches, and beside other generators on the same weights.

Everything runs on the same random 32 M parameters in float32 with the same threads; every answer must be the same. Writes one JSON file.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from loadtests.bench_command import as_program
from loadtests.child import HOST, Child, free_port, running
from loadtests.environment import heading
from loadtests.errors import LoadTestError
from loadtests.flags import count, duration_s, positive
from loadtests.generation import company, scenes
from loadtests.generation.claims import ENGINE, ENGINE_STATIC, claims
from loadtests.generation.joining import Joining
from loadtests.generation.programs import GENERATORS, ROOT, CannotRun, Generator, Program, environment, forms
from loadtests.generation.streams import Ask, Asked, ask
from loadtests.generation.work import Work, draw
from loadtests.generation_report import KIND, text
from loadtests.overload import Offer
from loadtests.report import write_json
from loadtests.verdicts import verdict_values

PROMPT, MEAN, MOST, VOCABULARY = 32, 64.0, 256, 8192
LONG_PROMPT, BUSY = 300, 0.66
IN_PROCESS = (
    Generator(ENGINE, "tests.measure.generation_engine", "ferry"),
    Generator(ENGINE_STATIC, "tests.measure.generation_static", "ferry"),
)
SCENES = ("backlog", "chosen", "arrivals", "gap", "overload", "company")
ENCODER_SOURCE = ROOT / "loadtests" / "peers" / "generators" / "encoder.py"
_MOST_TRIES = 3
"""So many times as many long prompts as rounds may be needed."""

ENCODER_SLO_S = 0.05
RECIPE = ROOT / "loadtests" / "generation" / "chosen.toml"
PATIENT_S = (300.0, 10.0)
"""Objectives of a model whose requests may all come at once."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    out: Path
    work: Path
    environment: Path
    server: str
    optimize: str
    peers: list[str]
    scenes: list[str]
    rounds: int
    requests: int
    arrivals: int
    slots: int
    threads: int
    slo: float
    gap: float
    small_gap: float
    load_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 after a message on stderr."""
    try:
        run(parse(arguments))
    except LoadTestError as error:
        print(f"bench_generation: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options."""
    parser = argparse.ArgumentParser("python -m loadtests.bench_generation", description=__doc__, allow_abbrev=False)
    ferry = f"{sys.executable} -m server.cli"
    modules = [_short(one) for one in GENERATORS]
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"), help="folder for the JSON file")
    parser.add_argument("--work", type=Path, default=Path(".ferry-cache/generation"), help="checkpoints and the repository")
    parser.add_argument("--environment", type=Path, default=Path(".venv-peers/generators"), help="of the other generators")
    parser.add_argument(
        "--server", default=f"{ferry} serve --metrics-port 0 --grpc-port off", help="takes --repository, --port"
    )
    parser.add_argument(
        "--optimize", default=f"{ferry} optimize", help="takes a source, --slo, --gap, --name, --repository, --plain, --recipe"
    )
    parser.add_argument("--peers", type=_words(modules), default=modules, help=f"of {','.join(modules)}, or none")
    parser.add_argument("--scenes", type=_words(SCENES), default=list(SCENES), help=f"of {','.join(SCENES)}")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--requests", type=count, default=96)
    parser.add_argument("--arrivals", type=count, default=150, help="requests that come at random, one by one")
    parser.add_argument("--slots", type=count, default=16)
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--slo", type=duration_s, default=1.0, help="of the first token, for the overload")
    parser.add_argument("--gap", type=duration_s, default=0.1, help="of each one after another, likewise")
    parser.add_argument(
        "--small-gap", type=duration_s, default=0.045, help="likewise, for the scene gap: a whole long prompt takes longer"
    )
    parser.add_argument("--load-s", type=positive, default=20.0, help="seconds of one load of the overload, and of the company")
    return Options(**vars(parser.parse_args(arguments)))


def _short(generator: Generator) -> str:
    return generator.module.rpartition(".")[2]


def _words(known: Sequence[str]) -> Any:
    def read(text: str) -> list[str]:
        words = [] if text == "none" else text.split(",")
        if unknown := set(words) - set(known):
            raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(known)}")
        return words

    return read


def run(options: Options) -> Path:
    """Measure, print, write the JSON file and return its path. Raises LoadTestError, also when a scene failed and the others are written."""
    python = environment(options.environment)
    repository = options.work / "repository"
    made = {**forms(python, options.work, options.threads), IN_PROCESS[0].form: repository / "patient"}
    plain = [("patient", *PATIENT_S), ("prompt", options.slo, options.gap), ("even", options.slo, options.small_gap)]
    for name, slo_s, gap_s in plain:
        _publish_decoder(options, made["checkpoint"], repository, name, slo_s, gap_s, ["--plain"])
    if "chosen" in options.scenes:
        _publish_decoder(options, made["checkpoint"], repository, "chosen", *PATIENT_S, ["--recipe", str(RECIPE)])
    _publish(options, ENCODER_SOURCE, repository, company.ENCODER, ["--plain", "--slo", f"{ENCODER_SLO_S:g}s"])
    work = draw(options.requests, PROMPT, MEAN, MOST, VOCABULARY, seed=1)
    content: dict[str, Any] = {
        "kind": KIND,
        **heading("loadtests.bench_generation", sys.argv[1:], asdict(options)),
        "what_is_counted": "tokens of all answers ÷ seconds from the first request to the end of the last answer; other generators in their "
        "own process without a network, ferry over HTTP with every token streamed to a client on the same cores",
        "work": {"requests": options.requests, "tokens": work.n_tokens, "row_step_ceiling": work.ceiling(options.slots)},
        "failed": {},
    }
    port = free_port()
    command = [*shlex.split(options.server), "--repository", str(repository), "--host", HOST, "--port", str(port)]
    with running(command, port, ready_path="/v2/health/ready") as server:
        per_s = None
        for scene in options.scenes:
            print(f"{scene} …", flush=True)
            try:
                if scene == "backlog":
                    content[scene] = _backlog(options, python, made, server, work)
                    per_s = statistics.median(content[scene]["tokens_per_s"][Joining.CONTINUOUS.value])
                else:
                    per_s = per_s or work.n_tokens / _once(options, server, work)[0]
                    content[scene] = _SCENES[scene](options, server, per_s)
            except LoadTestError as error:
                content["failed"][scene] = str(error)
            print(content.get(scene) or content["failed"][scene], flush=True)
    content["verdicts"] = verdict_values(claims(content))
    file = write_json(options.out, "bench-generation", content)
    print(f"{text(content)}\nwritten: {file}")
    if content["failed"]:
        raise LoadTestError("; ".join(f"{scene}: {why}" for scene, why in content["failed"].items()))
    return file


def _publish_decoder(
    options: Options, checkpoint: Path, repository: Path, name: str, slo_s: float, gap_s: float, tried: Sequence[str]
) -> None:
    """`tried`: the flags that say what is tried."""
    _publish(options, checkpoint, repository, name, [*tried, "--slo", f"{slo_s:g}s", "--gap", f"{gap_s:g}s"])
    wants = [
        f'slo = "{slo_s:g}s"',
        f'gap = "{gap_s:g}s"',
        f"slots = {options.slots}",
        f"threads = {options.threads}",
        "instances = 1",
    ]
    (repository / name / "model.toml").write_text("\n".join([*wants, ""]))  # of a version that was there, too


def _publish(options: Options, source: Path, repository: Path, name: str, promises: Sequence[str]) -> None:
    """If it has to be. Raises LoadTestError."""
    if (repository / name / "1" / "manifest.json").exists():
        return
    repository.mkdir(parents=True, exist_ok=True)
    flags = [*promises, "--name", name, "--repository", str(repository)]
    done = subprocess.run([*shlex.split(options.optimize), str(source), *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadTestError(f"{source.name} could not be published: {(done.stderr or done.stdout).strip()[-600:]}")


def _asking(server: Child, model: str) -> Ask:
    return partial(ask, server.port, model)


def _once(
    options: Options, server: Child, work: Work, joining: Joining = Joining.CONTINUOUS, model: str = "patient"
) -> tuple[float, list[str]]:
    return scenes.backlog(_asking(server, model), work, joining, options.slots)


def _backlog(options: Options, python: Path, made: Any, server: Child, work: Work) -> dict[str, Any]:
    tokenizer = Tokenizer.from_file(str(made["checkpoint"] / "tokenizer.json"))
    seconds: dict[str, list[float]] = {joining.value: [] for joining in Joining}
    texts: dict[str, list[Sequence[str]]] = {}
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        programs = []
        for generator in [*IN_PROCESS, *[one for one in GENERATORS if _short(one) in options.peers]]:
            try:
                interpreter = Path(sys.executable) if generator in IN_PROCESS else python
                program = Program(interpreter, generator, made[generator.form], work, options.slots, options.threads)
                programs.append(stack.enter_context(program))
                seconds[generator.name] = []
            except CannotRun as error:
                absent[generator.name] = str(error)
                print(f"left out: {error}", flush=True)
        _once(options, server, work)
        for at in range(options.rounds):
            for joining in Joining:
                took_s, found = _once(options, server, work, joining)
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
    ratios = {name: _ratio(per_s[ours], found) for name, found in per_s.items()}
    return {
        "tokens_per_s": per_s,
        "ferry_over": ratios,
        "same_answers": {name: min(shares) for name, shares in same.items()},
        "same_answers_by_round": same,
        "engine_over_static": _ratio(per_s[ENGINE], per_s[ENGINE_STATIC]),
        "row_step_ceiling": work.ceiling(slots),
    }


def _ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """Median over the rounds."""
    return statistics.median(one / other for one, other in zip(ours, others, strict=True))


def _chosen(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    """What `ferry optimize` chose beside the plain export, in turns on one server, with the same slots and threads."""
    work = draw(options.requests, PROMPT, MEAN, MOST, VOCABULARY, seed=1)
    found: dict[str, list[float]] = {"patient": [], "chosen": []}
    for at in range(options.rounds + 1):
        for model, per_second in found.items():
            took_s, _ = _once(options, server, work, model=model)
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
        "over_plain": _ratio(found["chosen"], found["patient"]),
        "times_smaller": plain["n_bytes"] / chosen["n_bytes"],
    }


def _arrivals(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    work = draw(options.arrivals, PROMPT, MEAN, MOST, VOCABULARY, seed=2)
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


def _gap(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    asking = _asking(server, "even")
    work = draw(options.slots - 1, PROMPT, MEAN, MOST, VOCABULARY, seed=3)
    rows = Work(work.prompts, [MOST] * len(work.prompts))
    n_tries = _MOST_TRIES * options.rounds
    longs = draw(n_tries, LONG_PROMPT, MEAN, MOST, VOCABULARY, seed=4).prompts  # one that came before would not be read again
    for _ in range(2):
        scenes.backlog(asking, rows, Joining.CONTINUOUS, options.slots)  # so that it knows its steps on this machine
    found: list[scenes.Gap] = []
    refused: list[str] = []
    for long in longs:
        try:
            found.append(scenes.long_prompt(asking, scenes.asked(rows), Asked(long, 8)))
        except LoadTestError as error:  # in a slow moment the server rightly takes on fewer than the scene is about
            refused.append(str(error))
        if len(found) == options.rounds:
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


def _overload(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    asking = _asking(server, "prompt")
    each = draw(1000, PROMPT, MEAN, MOST, VOCABULARY, seed=5)
    capacity = per_s / (each.n_tokens / len(each.prompts))
    found = {}
    for load in (0.7, 0.9, 1.0, 3.0):
        rate = load * capacity
        work = draw(round(rate * options.load_s), PROMPT, MEAN, MOST, VOCABULARY, seed=6)
        found[f"{load:g}"] = asdict(scenes.overload(asking, work, rate, options.slo, options.gap, seed=7))
    peak = max(one["tokens_per_s"] for load, one in found.items() if load != "3")
    return {"capacity_per_s": capacity, "loads": found, "kept_at_3": found["3"]["tokens_per_s"] / peak}


def _company(options: Options, server: Child, per_s: float) -> dict[str, Any]:
    each = draw(1000, PROMPT, MEAN, MOST, VOCABULARY, seed=8)
    rate = company.SHARE * per_s / (each.n_tokens / len(each.prompts))
    encoder_per_s = company.capacity(server)
    rounds = []
    for seed in range(options.rounds):
        work = draw(max(1, round(rate * options.load_s)), PROMPT, MEAN, MOST, VOCABULARY, seed=9 + seed)
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


_SCENES = {"chosen": _chosen, "company": _company, "arrivals": _arrivals, "gap": _gap, "overload": _overload}


if __name__ == "__main__":
    as_program(main)
