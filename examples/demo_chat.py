"""`make demo-chat`: a small model is trained on Python's own manual, published, served and asked through the `openai` client; then the figures.

Exit status 0 only if every answer came whole, and the same prompts give the same answers one after the other, in static batches, in waves and all at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from openai import OpenAI
from tokenizers import Tokenizer

from loadtests.bench_command import as_program
from loadtests.child import HOST, Child, free_port, running
from loadtests.errors import LoadTestError
from loadtests.generation import scenes
from loadtests.generation.joining import Joining
from loadtests.generation.streams import ask
from loadtests.generation.work import Work
from loadtests.report import table

NAME = "manual"
SLO, GAP = "1s", "100ms"
QUESTIONS = ("What does list.append do?", "How is a file opened?", "What is a decorator?")
N_TOKENS, TEMPERATURE = 80, 0.7
N_TIMED, MEAN, MOST, SLOTS = 48, 48.0, 192, 16
PROMPT_TOKENS = 24
_TOLD = {
    Joining.STATIC: "static batches (every row until the longest ends)",
    Joining.WAVES: "waves (the same, ended rows dropped)",
    Joining.CONTINUOUS: "all at once (continuous)",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Tokens per second of the same prompts, the most that there is to gain over static batches, and how many answers agree."""

    per_s: dict[Joining, float]
    ceiling: float
    n_alike: int


def main() -> int:
    """Run the whole way; 0 if all went well."""
    parser = argparse.ArgumentParser("python -m examples.demo_chat", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--minutes", default="5", help="to train for (default: %(default)s)")
    options = parser.parse_args()
    repository: Path = options.repository
    repository.mkdir(exist_ok=True)
    began_at = time.perf_counter()
    _say(f"train a small model on Python's own manual for {options.minutes} min (a model that is there already is taken)")
    checkpoint = Path(_run(["-m", "examples.manual", "--minutes", options.minutes], keep_output=True).strip())
    _say(f"optimize it for a first token within {SLO} and {GAP} between tokens")
    flags = ["--slo", SLO, "--gap", GAP, "--name", NAME, "--repository", str(repository)]
    _run(["-m", "server.cli", "optimize", str(checkpoint), *flags])
    port = free_port()
    _say(f"ferry serve on port {port}")
    serve = ["-m", "server.cli", "serve", "--repository", str(repository), "--port", str(port), "--grpc-port", "off"]
    try:
        with running([sys.executable, *serve], port, ready_path="/v2/health/ready") as server:
            n_whole = _chat(server)
            figures = _measure(server, checkpoint)
    except LoadTestError as error:
        print(f"demo-chat: {error}", file=sys.stderr)
        return 1
    return _report(n_whole, figures, time.perf_counter() - began_at)


def _run(arguments: Sequence[str], *, keep_output: bool = False) -> str:
    """What it printed, if that is to be kept. Ends the demo with its exit status when it fails."""
    done = subprocess.run([sys.executable, *arguments], check=False, text=True, stdout=subprocess.PIPE if keep_output else None)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout or ""


def _chat(server: Child) -> int:
    """Ask some questions and show the answers as they come; how many came whole."""
    client = OpenAI(base_url=f"http://{HOST}:{server.port}/v1", api_key="none", max_retries=0)
    n_whole = 0
    for question in QUESTIONS:
        print(f"\n  you:   {question}\n  model: ", end="", flush=True)
        stream = client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": question}], stream=True, max_tokens=N_TOKENS, temperature=TEMPERATURE,
            top_p=0.9, seed=1,
        )  # fmt: skip
        finish = None
        for chunk in stream:
            choice = chunk.choices[0]
            print((choice.delta.content or "").replace("\n", "\n         "), end="", flush=True)
            finish = choice.finish_reason or finish
        print(f"   [{finish}]")
        n_whole += finish in ("stop", "length")
    return n_whole


def _measure(server: Child, checkpoint: Path) -> Figures:
    """The same prompts, of the model's own vocabulary, in batches of as many as fit, and all at once: where rows are refilled as answers
    end, nobody waits for the longest."""
    vocabulary = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).get_vocab_size()
    rng = np.random.default_rng(0)
    prompts = rng.integers(vocabulary // 2, vocabulary, (N_TIMED, PROMPT_TOKENS)).tolist()
    work = Work(prompts, np.minimum(rng.geometric(1 / MEAN, N_TIMED), MOST).tolist())
    asking = partial(ask, server.port, NAME)
    _say(f"{N_TIMED} prompts, {work.n_tokens} tokens: one after the other, in batches of {SLOTS}, all at once")
    alone = [
        scenes.backlog(asking, Work([prompt], [n]), Joining.CONTINUOUS, SLOTS)[1][0]
        for prompt, n in zip(prompts, work.new_tokens, strict=True)
    ]
    per_s: dict[Joining, float] = {}
    n_alike = N_TIMED
    for joining in (Joining.STATIC, Joining.WAVES, Joining.CONTINUOUS):
        took_s, texts = scenes.backlog(asking, work, joining, SLOTS)
        per_s[joining] = work.n_tokens / took_s
        n_alike = min(n_alike, round(N_TIMED * scenes.alike(alone, texts, joining)))
    return Figures(per_s, work.ceiling(SLOTS), n_alike)


def _report(n_whole: int, figures: Figures, took_s: float) -> int:
    static_per_s = figures.per_s[Joining.STATIC]
    lines = [[_TOLD[joining], f"{per_s:.0f}", f"{per_s / static_per_s:.2f}"] for joining, per_s in figures.per_s.items()]
    print(f"\n{table((f'{N_TIMED} prompts', 'tokens/s', 'ratio'), lines)}\n")
    print(
        f"the most that refilling can gain on this work: {figures.ceiling:.2f} (rows that static batches compute ÷ rows needed);"
    )
    print("so small a model is bound by carrying its tokens to the client, not by rows: make bench-generation has a larger one")
    print(f"alone, in batches and all at once: {figures.n_alike} of {N_TIMED} answers are the same")
    right = n_whole == len(QUESTIONS) and figures.n_alike == N_TIMED
    verdict = "every answer came whole, and none depends on its neighbours" if right else "WRONG ANSWERS, see above"
    body = f'{{"model":"{NAME}","messages":[{{"role":"user","content":"{QUESTIONS[0]}"}}],"stream":true}}'
    print(f"\n{verdict} ({took_s:.0f} s in all)\n\nTry it:\n  make serve")
    print(f"  curl -sN localhost:8000/v1/chat/completions -H 'content-type: application/json' -d '{body}'")
    return 0 if right else 1


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    as_program(main)
