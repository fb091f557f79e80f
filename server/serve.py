"""The verb `serve`: settings from flags, file and environment, then the server until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from server.contract.errors import ContractError
from server.contract.layout import check_repository
from server.imports import importing
from server.settings import Settings, SettingsError, read_settings, tell_libraries


class ServeVerb:
    """`ferry serve`."""

    help = "serve a model repository over HTTP"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """One flag per setting; a flag that is not given leaves the decision to the environment, the file, the default."""
        parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
        for name, field in Settings.model_fields.items():
            default = f" (default: {field.default})" if field.default is not None else ""
            parser.add_argument(
                "--" + name.replace("_", "-"), dest=name, default=argparse.SUPPRESS, metavar="VALUE",
                help=f"{field.description}{default}",
            )  # fmt: skip

    def run(self, args: argparse.Namespace) -> int:
        flags: dict[str, Any] = {name: getattr(args, name) for name in Settings.model_fields if hasattr(args, name)}
        try:
            settings = read_settings(flags, args.config)
        except SettingsError as error:
            print(f"ferry: {error}", file=sys.stderr)
            return 2
        try:
            check_repository(settings.repository)
        except ContractError as error:
            print(f"ferry: {error}", file=sys.stderr)
            return 2
        if settings.frontends and settings.shared_memory == "on":
            print(
                "ferry: shared memory needs the server in one process: set frontends to 0, or shared_memory to off",
                file=sys.stderr,
            )
            return 2
        return serve(settings)


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT: then no new connections, accepted requests are answered, and it returns 0."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    tell_libraries()
    if settings.frontends:
        from server.processes import (
            serve_in_processes,  # a supervisor stays small: it imports neither numpy nor a model's library
        )

        return serve_in_processes(settings)
    with importing():
        from server.one_process import serve_in_one_process

    return serve_in_one_process(settings)
