"""model.toml: the one file of a model that people edit. It says what is wanted, never what was measured."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from server.contract.classes import Classes, ServiceClass, check_classes, usual_classes
from server.contract.durations import exact_duration, parse_duration
from server.contract.errors import ContractError
from server.contract.fields import Fields

FILE = "model.toml"

_OVERRIDES = ("max_rows", "instances", "threads", "slots")

USUAL_GAP_S = 0.1
"""Between two tokens, where nothing else is said: text that comes at this pace is faster than people read."""

_NO_CLASSES = """
# Classes of requests, the most urgent first; the first is the default, unless another says default = true.
# Without these lines there are three: high, normal (the default) and low, all with the SLO above.
# [[classes]]
# name = "interactive"
# [[classes]]
# name = "batch"
# slo = "2s"
"""


@dataclass(frozen=True, slots=True)
class Wants:
    """The latency objective in seconds, the experts' overrides (None: take what was measured), and the classes of requests
    (None: the usual ones).

    Of a version that generates, `slo_s` is the objective of the first token, and `gap_s` that of each one after another (None: the
    usual one); `slots`: how many requests are answered at a time.
    """

    slo_s: float
    max_rows: int | None = None
    instances: int | None = None
    threads: int | None = None
    declared: Classes | None = None
    gap_s: float | None = None
    slots: int | None = None

    @property
    def classes(self) -> Classes:
        """The default one has this model's SLO."""
        return self.declared or usual_classes(self.slo_s)

    def asked(self, slo_s: float | None, gap_s: float | None = None) -> Wants:
        """With other objectives; None keeps one. Classes without an SLO of their own have the model's."""
        declared = self.declared
        if declared is not None and slo_s is not None:
            classes = tuple([one if one.is_own else replace(one, slo_s=slo_s) for one in declared.all])
            declared = Classes(classes, declared.default)
        return replace(
            self, slo_s=self.slo_s if slo_s is None else slo_s, gap_s=self.gap_s if gap_s is None else gap_s, declared=declared
        )

    def to_toml(self) -> str:
        """The file's text, with the overrides shown as comments for who looks for them."""
        lines = [f'slo = "{exact_duration(self.slo_s)}"  # answers are wanted within this time, queueing included']
        if self.gap_s is not None:
            lines.append(f'gap = "{exact_duration(self.gap_s)}"  # each token after another; slo is that of the first one')
        lines.append("")
        lines.append("# Experts only; without these lines ferry uses what it measured.")
        generates = self.slots is not None or self.gap_s is not None
        shown = _OVERRIDES if generates else _OVERRIDES[:-1]
        for name in shown:
            value = getattr(self, name)
            lines.append(f"# {name} = 1" if value is None else f"{name} = {value}")
        return "\n".join(lines) + "\n" + (_NO_CLASSES if self.declared is None else self._classes_to_toml(self.declared))

    def _classes_to_toml(self, classes: Classes) -> str:
        lines = ["", "# The most urgent first."]
        for number, one in enumerate(classes.all, 1):
            lines += ["[[classes]]", f'name = "{one.name}"']
            if one.is_own:
                lines.append(f'slo = "{exact_duration(one.slo_s)}"')
            if number == classes.default:
                lines.append("default = true")
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
    fields.only(("slo", "gap", *_OVERRIDES, "classes"))
    overrides = {name: fields.integer(name, 1) for name in _OVERRIDES if fields.has(name)}
    slo_s = parse_duration(fields.text("slo"), f"{where}: slo")
    gap_s = parse_duration(fields.text("gap"), f"{where}: gap") if fields.has("gap") else None
    declared = _classes(fields.children("classes"), slo_s, where) if fields.has("classes") else None
    return Wants(slo_s, **overrides, declared=declared, gap_s=gap_s)


def _classes(items: list[Fields], slo_s: float, where: str) -> Classes:
    classes = []
    defaults = []
    for number, item in enumerate(items, 1):
        item.only(("name", "slo", "default"))
        own_s = parse_duration(item.text("slo"), f"{item.where}: slo") if item.has("slo") else None
        classes.append(ServiceClass(item.text("name"), slo_s if own_s is None else own_s, own_s is not None))
        if item.has("default") and item.flag("default"):
            defaults.append(number)
    check_classes(classes, where)
    if len(defaults) > 1:
        raise ContractError(f"{where}: {len(defaults)} classes say default = true; one may")
    default = defaults[0] if defaults else 1
    if items[default - 1].has("slo"):
        raise ContractError(
            f"{where}: class {classes[default - 1].name!r} is the default, so its SLO is the model's; leave its slo out, or say "
            "default = true in a class without one"
        )
    return Classes(tuple(classes), default)
