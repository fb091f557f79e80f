"""A repository, a cache and tiny model files for the tests of the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.job import LadderWish, Outcome, Request, optimize
from optimizer.ladder.trial import Trial
from optimizer.options import Options
from optimizer.run import Done
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.layout import versions
from server.intake.measure import Effort

QUICK = Effort(cell_s=0.0, n_least=2, n_most=2)

LINEAR = """
import numpy as np
import torch

MAX_ROWS = 4
OUTPUTS = ["y"]

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x)

def build():
    return Net().eval()

def samples():
    return [{"x": np.array([[1.0, 2.0, n]], dtype=np.float32)} for n in range(3)]
"""

RAGGED = """
import numpy as np
import torch

MAX_ROWS = 3
AXES = {"ids": {1: "sequence"}, "mask": {1: "sequence"}}
LENGTHS = (2, 9)
PADS = {"ids": 0}

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(11, 4)

    def forward(self, ids, mask):
        weight = mask.unsqueeze(-1).to(torch.float32)
        return {"mean": (self.table(ids) * weight).sum(1) / weight.sum(1), "count": mask.sum(1, keepdim=True)}

def build():
    return Net().eval()

def samples():
    ids = [np.arange(1, n + 1, dtype=np.int64)[None] for n in (2, 5, 9)]
    return [{"ids": row, "mask": np.ones_like(row)} for row in ids]
"""

WORDS = ["[UNK]", "[C]", "[S]", "low", "tide", "high", "boat", "late"]

TEXT = RAGGED.replace(
    "def samples():",
    """
EMBEDDING = "mean"
TEXT_INPUTS = {"ids": "ids", "mask": "mask"}

def tokenizer():
    from pathlib import Path
    return Path(__file__).parent / "tokenizer.json"

def texts():
    return ["", "low tide boat", "late " * 7]

def samples():
    rows = [np.array([ids], dtype=np.int64) for ids in ([1, 2], [1, 3, 4, 6, 2], [1] + [7] * 7 + [2])]
    return [{"ids": row, "mask": np.ones_like(row)} for row in rows]

def other_samples():""",
)


@dataclass
class Recorder:
    """A display that remembers."""

    done: list[Done] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    def begin(self, stage: str) -> None:
        pass

    def step(self, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total

    def end(self, done: Done) -> None:
        self.done.append(done)

    def judged(self, trial: Trial) -> None:
        self.trials.append(trial)


class Bench:
    """One model called `tiny` under `root`."""

    def __init__(self, root: Path) -> None:
        self.repository, self.cache = root / "repository", root / "cache"
        self.folder = root / "tiny"
        self.folder.mkdir()
        self.source = self.folder / "model.py"
        self.recorder = Recorder()

    def write(self, text: str, name: str = "model.py") -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def write_tokenizer(self, words: Sequence[str] = WORDS, name: str = "tokenizer.json") -> Path:
        """A tokenizer of whole words beside the model file."""
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        made.post_processor = processors.TemplateProcessing(single="[C] $A [S]", special_tokens=[("[C]", 1), ("[S]", 2)])
        made.save(str(self.folder / name))
        return self.folder / name

    def run(
        self, *, slo_s: float | None = 0.05, max_loss: float = 0.5, force: bool = False, ladder: LadderWish | None = None
    ) -> Outcome:
        self.recorder = Recorder()
        options = Options(max_loss=max_loss, effort=QUICK)
        command = "ferry optimize …"
        request = Request(self.source, self.repository, self.cache, slo_s, command, None, options, force, ladder)
        return optimize(request, OnnxRuntimeBackend(), self.recorder)

    @property
    def ran(self) -> list[str]:
        """Stages of the last run that were not taken from the cache."""
        return [done.stage.name for done in self.recorder.done if not done.reused]

    @property
    def live(self) -> Sequence[int]:
        """Published versions."""
        return versions(self.repository / "tiny")

    def leftovers(self) -> list[str]:
        """What lies in the repository besides published models."""
        return [str(p.relative_to(self.repository)) for p in (self.repository / ".staging").glob("*")]
