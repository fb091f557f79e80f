"""Runs the verb `optimize`: parsed arguments in, progress and summary on the terminal, exit status out."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from optimizer.decoder import job as decoder_job
from optimizer.decoder.job import optimize_decoder
from optimizer.decoder.recipe import with_recipe
from optimizer.decoder.summary import print_decoder
from optimizer.decoder.trial import Gates
from optimizer.decoder.wish import Wish
from optimizer.display import Terminal, print_outcome
from optimizer.errors import OptimizeError
from optimizer.job import LadderWish, Request, optimize
from optimizer.ladder.here import Here
from optimizer.options import MAX_LOSS, Options
from optimizer.runs import Verdict
from server.backends.catalog import find_backends, plain_backend
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.errors import ContractError

REJECTED, WRONG, INTERRUPTED = 1, 2, 130
"""Exit statuses besides 0: the model failed a check; the request or a file is wrong; Ctrl-C."""

CACHE = ".ferry-cache"
"""Folder beside the repository that keeps finished stages."""


def run(args: argparse.Namespace) -> int:
    """The exit status; errors of the user's go to standard error, one line each."""
    console = Console(soft_wrap=True)
    try:
        if args.source.is_dir():
            return _run_decoder(args, console)
        with Terminal(console) as terminal:
            outcome = optimize(_request(args), plain_backend(), terminal)
    except (OptimizeError, ContractError) as error:
        return _complain(str(error), WRONG)
    except OSError as error:
        return _complain(f"{error.filename or 'disk'}: {error.strerror}; nothing was published", WRONG)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was published, finished stages are kept for the next run", INTERRUPTED)
    print_outcome(console, outcome)
    return REJECTED if outcome.verdict is Verdict.REJECTED else 0


def _run_decoder(args: argparse.Namespace, console: Console) -> int:
    """For a checkpoint folder."""
    request = _decoder_request(args)
    with Terminal(console) as terminal:
        outcome = optimize_decoder(request, OnnxDecoderBackend(), terminal)
    print_decoder(console, outcome)
    return REJECTED if outcome.verdict is Verdict.REJECTED else 0


def _decoder_request(args: argparse.Namespace) -> decoder_job.Request:
    """Raises OptimizeError for flags that mean nothing for a decoder."""
    others = {"--pad": args.pad, "--tokenizer": args.tokenizer, "--text-input": args.text_input, "--embedding": args.embedding}
    wrong = next((flag for flag, value in others.items() if value), None)
    if wrong is not None:
        raise OptimizeError(f"{wrong} is not for checkpoint folders, and {args.source} is one; leave it out")
    _check_recipe(args)
    wish = Wish(text=args.text)
    if args.plain:
        wish = replace(wish, candidates=())
    if args.max_loss is not None:
        wish = replace(wish, gates=Gates(max_rise=args.max_loss))
    if args.max_rows is not None:
        wish = replace(wish, slots=args.max_rows)
    if args.recipe is not None:
        wish = with_recipe(wish, args.recipe)
    repository: Path = args.repository
    return decoder_job.Request(
        source=args.source, repository=repository, cache=args.cache or repository.parent / CACHE, slo_s=args.slo, gap_s=args.gap,
        command=_command(args), name=args.name, longest=args.lengths[1] if args.lengths else None, wish=wish, force=args.force,
    )  # fmt: skip


def _complain(text: str, status: int) -> int:
    print(f"ferry optimize: {text}", file=sys.stderr)
    return status


def _request(args: argparse.Namespace) -> Request:
    """Raises OptimizeError for flags that contradict each other."""
    repository: Path = args.repository
    if args.gap is not None or args.text is not None:
        raise OptimizeError(
            f"--gap and --text are for checkpoint folders of decoders, and {args.source} is none; leave them out"
        )
    _check_recipe(args)
    return Request(
        source=args.source,
        repository=repository,
        cache=args.cache or repository.parent / CACHE,
        slo_s=args.slo,
        command=_command(args),
        name=args.name,
        options=Options(
            args.lengths,
            dict(args.pad),
            args.max_rows,
            MAX_LOSS if args.max_loss is None else args.max_loss,
            tokenizer=args.tokenizer,
            text_inputs=dict(args.text_input),
            embedding=args.embedding,
        ),
        force=args.force,
        ladder=None if args.plain else LadderWish(Here(find_backends()), args.recipe),
    )


def _check_recipe(args: argparse.Namespace) -> None:
    if args.plain and args.recipe is not None:
        raise OptimizeError("--plain tries no candidates, --recipe says which to try; give one of the two")


def _command(args: argparse.Namespace) -> str:
    """The line that asks for the same again; where the results go is left out."""
    words = ["ferry", "optimize", str(args.source)]
    words += ["--max-loss", f"{args.max_loss:g}"] if args.max_loss is not None else []
    for flag, time_s in (("--slo", args.slo), ("--gap", args.gap)):
        words += [flag, f"{time_s * 1e3:g}ms"] if time_s is not None else []
    words += ["--name", args.name] if args.name else []
    words += ["--max-rows", str(args.max_rows)] if args.max_rows else []
    words += ["--lengths", f"{args.lengths[0]}:{args.lengths[1]}"] if args.lengths else []
    words += ["--tokenizer", str(args.tokenizer)] if args.tokenizer else []
    for role, name in args.text_input:
        words += ["--text-input", f"{role}={name}"]
    words += ["--embedding", args.embedding] if args.embedding else []
    words += ["--text", str(args.text)] if args.text else []
    words += ["--recipe", str(args.recipe)] if args.recipe else []
    words += ["--plain"] if args.plain else []
    for name, value in args.pad:
        words += ["--pad", f"{name}={value}"]
    return shlex.join(words)
