"""`python -m loadtests.bench_generation`: continuous batching beside static batches, and beside other generators on the same weights.

Everything runs on the same random 32 M parameters in float32 with the same threads; every answer must be the same. Writes one JSON file.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.bench_command import as_program
from loadtests.child import HOST, free_port, running
from loadtests.environment import heading
from loadtests.errors import LoadTestError
from loadtests.flags import count, duration_s, positive
from loadtests.generation import company, measured
from loadtests.generation.claims import claims
from loadtests.generation.joining import Joining
from loadtests.generation.options import Options
from loadtests.generation.programs import GENERATORS, ROOT, environment, forms
from loadtests.generation.work import usual
from loadtests.generation_report import KIND, text
from loadtests.precedence import going_first
from loadtests.report import write_json
from loadtests.verdicts import verdict_values

_AFTER_BACKLOG = {
    "chosen": measured.chosen,
    "arrivals": measured.arrivals,
    "gap": measured.gap,
    "overload": measured.overload,
    "company": measured.side_by_side,
}
SCENES = ("backlog", *_AFTER_BACKLOG)
ENCODER_SOURCE = ROOT / "loadtests" / "peers" / "generators" / "encoder.py"
RECIPE = ROOT / "loadtests" / "generation" / "chosen.toml"
PATIENT_S = (300.0, 10.0)
"""Objectives of a model whose requests may all come at once."""


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
    modules = [one.short_name for one in GENERATORS]
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
    made = {**forms(python, options.work, options.threads), measured.IN_PROCESS[0].form: repository / "patient"}
    plain = [("patient", *PATIENT_S), ("prompt", options.slo, options.gap), ("even", options.slo, options.small_gap)]
    for name, slo_s, gap_s in plain:
        _publish_decoder(options, made["checkpoint"], repository, name, slo_s, gap_s, ["--plain"])
    if "chosen" in options.scenes:
        _publish_decoder(options, made["checkpoint"], repository, "chosen", *PATIENT_S, ["--recipe", str(RECIPE)])
    _publish(options, ENCODER_SOURCE, repository, company.ENCODER, ["--plain", "--slo", f"{measured.ENCODER_SLO_S:g}s"])
    work = usual(options.requests, seed=1)
    with going_first() as niceness:
        pass  # as the clients will, where their waits are measured
    content: dict[str, Any] = {
        "kind": KIND,
        **heading("loadtests.bench_generation", sys.argv[1:], asdict(options)),
        "what_is_counted": "tokens of all answers ÷ seconds from the first request to the end of the last answer; other generators in their "
        "own process without a network, ferry over HTTP with every token streamed to a client on the same cores",
        "work": {"requests": options.requests, "tokens": work.n_tokens, "row_step_ceiling": work.ceiling(options.slots)},
        "clients_niceness": niceness,
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
                    content[scene] = measured.backlog(options, python, made, server, work)
                    per_s = statistics.median(content[scene]["tokens_per_s"][Joining.CONTINUOUS.value])
                else:
                    per_s = per_s or work.n_tokens / measured.once(options, server, work)[0]
                    content[scene] = _AFTER_BACKLOG[scene](options, server, per_s)
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


if __name__ == "__main__":
    as_program(main)
