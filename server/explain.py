"""The verb `explain`: why a request was batched, delayed, refused or late, told from a running server's flight recorder or a file."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from server.recording import file
from server.recording.file import BadRecording, Recording
from server.recording.listing import Which, listed
from server.recording.story import NotThere, numbers_of, tell
from server.recording.telling import list_lines, story_lines
from server.settings import SettingsError, read_settings

PATH = "/admin/recording"
TIMEOUT_S = 60.0
N_LISTED = 20


class NoRecording(Exception):
    """There is none to read; the message says why and what to do."""


class ExplainVerb:
    """`ferry explain`."""

    help = "tell why a request was batched, delayed, refused or late"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "request", nargs="?", metavar="ID", help="the id that the client sent, or ferry's number of the request"
        )
        parser.add_argument(
            "--list", choices=[one.value for one in Which], dest="which", help="list requests instead, the worst first"
        )
        parser.add_argument("-n", type=int, default=N_LISTED, metavar="N", help=f"how many to list (default: {N_LISTED})")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--url", default="http://127.0.0.1:8000", help="a running server (default: %(default)s)")
        source.add_argument("--file", type=Path, metavar="FILE", help="a recording")
        parser.add_argument("--token", help="the server's admin token (default: FERRY_ADMIN_TOKEN)")

    def run(self, args: argparse.Namespace) -> int:
        """0: told, 1: there is no such request, 2: there is no recording."""
        if (args.request is None) == (args.which is None) or args.n < 1:
            print("ferry: name a request, or ask for --list late, refused or slow, with -n of 1 or more", file=sys.stderr)
            return 2
        try:
            recording = _from_file(args.file) if args.file else _from_server(args.url, args.token)
            for line in _list(recording, Which(args.which), args.n) if args.which else _explain(recording, args.request):
                print(line)
        except NotThere as error:
            print(f"ferry: {error.args[0]}", file=sys.stderr)
            return 1
        except (NoRecording, BadRecording) as error:
            print(f"ferry: {error}", file=sys.stderr)
            return 2
        return 0


def _list(recording: Recording, which: Which, most: int) -> Iterator[str]:
    found, n_all = listed(recording, which, most)
    yield f"{n_all} {which.value} requests in {recording.n_events} events{f'; {len(found)} of them:' if found else ''}"
    if found:
        yield from list_lines(recording.header, recording.names, found)


def _explain(recording: Recording, asked: str) -> Iterator[str]:
    numbers = numbers_of(recording, asked)
    if len(numbers) > 1:
        yield f"{len(numbers)} requests are called {asked!r}"
    for number in numbers:
        yield from story_lines(tell(recording, number), recording.header)


def _from_file(path: Path) -> Recording:
    try:
        return file.read(path.read_bytes())
    except OSError as error:
        raise NoRecording(f"{path}: {error.strerror}") from None


def _from_server(url: str, token: str | None) -> Recording:
    if not url.startswith(("http://", "https://")):
        raise NoRecording(f"--url is like http://127.0.0.1:8000, found {url!r}")
    request = urllib.request.Request(url.rstrip("/") + PATH)
    token = token or _token_of_settings()
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            data = response.read()
    except urllib.error.HTTPError as error:
        raise NoRecording(f"{url} answers {error.code}: {_reason(error.read())}") from None
    except (OSError, HTTPException) as error:
        raise NoRecording(
            f"no server answers at {url} ({error}); name another with --url, or a recording with --file"
        ) from None
    return file.read(data)


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _token_of_settings() -> str | None:
    try:
        return read_settings({}, None).admin_token
    except SettingsError as error:
        raise NoRecording(str(error)) from None
