"""model.toml: the one file of a model that people edit. It says what is wanted, never what was measured."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from server.contract.durations import exact_duration, parse_duration
from server.contract.errors import ContractError
from server.contract.fields import Fields

FILE = "model.toml"

_OVERRIDES = ("max_rows", "instances", "threads")


@dataclass(frozen=True, slots=True)
class Wants:
    """The latency objective in seconds, and the experts' overrides (None: take what was measured)."""

    slo_s: float
    max_rows: int | None = None
    instances: int | None = None
    threads: int | None = None

    def to_toml(self) -> str:
        """The file's text, with the overrides shown as comments for who looks for them."""
        lines = [f'slo = "{exact_duration(self.slo_s)}"  # answers are wanted within this time, queueing included', ""]
        lines.append("# Experts only; without these lines ferry uses what it measured.")
        for name in _OVERRIDES:
            value = getattr(self, name)
            lines.append(f"# {name} = 1" if value is None else f"{name} = {value}")
        return "\n".join(lines) + "\n"


def read_wants(path: Path) -> Wants:
    """Raises ContractError when the file is missing, is not TOML, or holds an unknown or impossible value."""
    where = f"{path.parent.name}/{path.name}"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ContractError(f'{where}: missing; create it with a line like: slo = "50ms"') from None
    except OSError as error:
        raise ContractError(f"{where}: cannot be read ({error.strerror}); it must be a file that the server may read") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number or nesting without bounds
        raise ContractError(f"{where}: not valid TOML: {error}") from None
    fields = Fields(data, where)
    fields.only(("slo", *_OVERRIDES))
    overrides = {name: fields.integer(name, 1) for name in _OVERRIDES if fields.has(name)}
    return Wants(parse_duration(fields.text("slo"), f"{where}: slo"), **overrides)
