"""The verb `optimize` of the ferry command: its arguments. Imports no tool; what it does is in shell."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from server.contract.durations import parse_duration
from server.contract.errors import ContractError

_NEEDED = ("rich", "jinja2")
_CACHE = ".ferry-cache"


class OptimizeVerb:
    """A verb as the `ferry.verbs` entry points want it."""

    help = (
        "turn a PyTorch model (a Python file), an .onnx file or a decoder's checkpoint folder into a verified, measured version"
    )

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add = parser.add_argument
        add("source", type=Path, help="a Python file with build() and samples(), a finished .onnx file, or a checkpoint folder")
        add(
            "--slo",
            type=_duration,
            metavar="TIME",
            help="wanted latency, like 20ms; needed for a new model. Of a decoder: of the first token",
        )
        add("--gap", type=_duration, metavar="TIME", help="of a decoder: wanted time between two tokens; default: 100ms")
        add("--repository", type=Path, default=Path("model_repository"), metavar="DIR", help="default: %(default)s")
        add("--name", help="the model's name; default: NAME in the file, else its folder; of a checkpoint: the folder's")
        add(
            "--max-loss",
            type=float,
            metavar="POINTS",
            help="allowed drop of the score, in hundredths (default: 0.5); of a decoder, allowed rise of perplexity in per cent (3)",
        )
        add("--max-rows", type=_positive, metavar="N", help="largest batch to try; of a decoder, most answers at a time (32)")
        add(
            "--lengths",
            type=_lengths,
            metavar="MIN:MAX",
            help="sizes of the free axis, like 3:256; of a decoder, 1:MOST_TOKENS",
        )
        add(
            "--text",
            type=Path,
            metavar="FILE",
            help="of a decoder: compare on this text; default: on what the model itself writes",
        )
        add("--pad", type=_pad, action="append", default=[], metavar="INPUT=VALUE", help="fill value of an input")
        add("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json of an .onnx file that shall take text")
        add(
            "--text-input", type=_text_input, action="append", default=[], metavar="ROLE=INPUT",
            help="where its ids, mask or types go, like ids=tokens; default: the usual names",
        )  # fmt: skip
        add("--embedding", metavar="OUTPUT", help="the output of an .onnx file that /v1/embeddings returns")
        add("--cache", type=Path, metavar="DIR", help=f"default: {_CACHE} beside the repository")
        add("--recipe", type=Path, metavar="FILE", help="what to try and what must be kept (TOML); default: by the graph")
        add("--plain", action="store_true", help="publish the plain export, checked to the last digits; try nothing else")
        add("--force", action="store_true", help="publish again even when nothing changed; the cache is still used")

    def run(self, args: argparse.Namespace) -> int:
        """0: published or unchanged; 1: rejected; 2: something to correct; 130: interrupted."""
        try:
            from optimizer import shell
        except ModuleNotFoundError as error:
            if error.name not in _NEEDED:
                raise
            print(f"ferry optimize: {error.name} is not installed: pip install {' '.join(_NEEDED)}", file=sys.stderr)
            return 2
        return shell.run(args)


OPTIMIZE = OptimizeVerb()


def main(arguments: list[str] | None = None) -> int:
    """The verb on its own, without the `ferry` command."""
    parser = argparse.ArgumentParser(prog="ferry optimize", description=OPTIMIZE.help)
    OPTIMIZE.configure(parser)
    return OPTIMIZE.run(parser.parse_args(arguments))


def _duration(text: str) -> float:
    try:
        return parse_duration(text, "--slo")
    except ContractError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _lengths(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) < int(high)):
        raise argparse.ArgumentTypeError(f"{text!r} is not SHORTEST:LONGEST, like 3:256")
    return int(low), int(high)


def _text_input(text: str) -> tuple[str, str]:
    role, _, name = text.partition("=")
    if role not in ("ids", "mask", "types") or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROLE=INPUT, like ids=tokens; roles are ids, mask and types")
    return role, name


def _pad(text: str) -> tuple[str, int | float]:
    name, _, value = text.rpartition("=")
    try:
        return name, int(value) if value.lstrip("-").isdecimal() else float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not INPUT=VALUE, like input_ids=0") from None
