"""NVIDIA's perf_analyzer, unmodified, against a running server: `python -m tests.conformance.perf_analyzer HOST:PORT`.

The binary is in the wheel tritonclient 2.41.1 (later ones lack it); it needs libb64 and the CUDA 12 runtime library.
`--binary` names it, `--libraries` the folders of the two. The server must hold `affine` of tests/models.py and have shared
memory turned on (tests/conformance/serve_tiny.py); `--grpc HOST:PORT` is its other port.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SHORT = ["--measurement-interval", "1000", "--stability-percentage", "999", "--max-trials", "5"]


@dataclass(frozen=True)
class Run:
    """One call of the tool and what its report must show."""

    name: str
    flags: tuple[str, ...]
    shows: str


RUNS = (
    Run("closed loop, binary", ("--concurrency-range", "1:2"), r"Throughput: [\d.]+ infer/sec"),
    Run("JSON both ways", ("--input-tensor-format", "json", "--output-tensor-format", "json"), r"Throughput: [\d.]+ infer/sec"),
    Run("batches of 4", ("-b", "4"), r"Batch size: 4"),
    Run("open loop", ("--request-rate-range", "100"), r"Throughput: \d+\.?\d* infer/sec"),
    Run("asynchronous", ("--async", "--concurrency-range", "4"), r"Throughput: [\d.]+ infer/sec"),
    Run(
        "the server's own statistics",
        ("--concurrency-range", "2"),
        r"Server: \n\s+Inference count: \d+\n\s+Execution count: \d+",
    ),
    Run("system shared memory", ("--shared-memory", "system", "--concurrency-range", "2"), r"Throughput: [\d.]+ infer/sec"),
)
GRPC_RUNS = (
    Run("gRPC", ("-i", "grpc", "--concurrency-range", "2"), r"Throughput: [\d.]+ infer/sec"),
    Run("gRPC, system shared memory", ("-i", "grpc", "--shared-memory", "system"), r"Throughput: [\d.]+ infer/sec"),
)


def run(binary: Path, libraries: str, url: str, one: Run) -> tuple[bool, str]:
    """Whether it ran and reported, and its whole output."""
    command = [str(binary), "-m", "affine", "-u", url, "--service-kind", "triton", *SHORT, *one.flags]
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    text = done.stdout + done.stderr
    return done.returncode == 0 and re.search(one.shows, text) is not None, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", metavar="HOST:PORT")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="also over gRPC")
    parser.add_argument("--binary", type=Path, default=shutil.which("perf_analyzer"))
    parser.add_argument("--libraries", default="", help="folders with libb64 and libcudart, separated by colons")
    parser.add_argument("--out", type=Path, help="file for the verdicts and the reports")
    args = parser.parse_args()
    if args.binary is None:
        print("no perf_analyzer: name it with --binary; it is in the wheel tritonclient 2.41.1", file=sys.stderr)
        return 2
    verdicts, reports = [], []
    visits = [(args.url, one) for one in RUNS] + [(args.grpc, one) for one in GRPC_RUNS if args.grpc]
    for url, one in visits:
        worked, text = run(args.binary, args.libraries, url, one)
        verdicts.append(f"{one.name}: {'works' if worked else 'FAILED'}")
        reports.append(f"--- {one.name}: perf_analyzer -m affine {' '.join((*SHORT, *one.flags))}\n{text.strip()}\n")
        print(verdicts[-1])
    if args.out:
        args.out.write_text("\n".join((*verdicts, "", *reports)))
    return 1 if any("FAILED" in verdict for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
