"""The planning calculator: what a change to a model may bring in size, memory and speed, and what it risks. Pure.

Factors are what was seen on one machine, an x86 server processor with AVX512-VNNI and AMX; measured figures replace them where there
are any. An estimate is for deciding what to try, never for saying what was reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from optimizer.errors import OptimizeError

FLOAT_BITS = 32
BLOCK_OVERHEAD_BITS = 1.0
"""At 4 bits and less: a scale of 32 bits for each block of 32 weights. At 8 bits a scale for each channel is nothing beside it."""

SIZE_EXPONENTS = (0.7, 1.1)
"""Speed follows the share of weights left to a power between these: smaller layers use a core less well, but fit its caches better."""

GFLOPS_PER_CORE = 50.0
"""Of float32 matrix products, where nothing was measured."""


class Runtime(Enum):
    """What runs the model; the value is the name of the backend in manifests."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino-bf16"


class Pruning(Enum):
    """Which weights go: single ones, which stay stored as zeros, or whole channels, whose shapes go with them."""

    UNSTRUCTURED = "unstructured"
    STRUCTURED = "structured"


class Risk(Enum):
    """How likely it is that the answers get worse than wanted, before anything was trained again."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Span:
    """From the worse case to the better, or from the lower figure to the higher."""

    low: float
    high: float

    def times(self, other: Span) -> Span:
        """Of two independent factors."""
        return Span(self.low * other.low, self.high * other.high)

    def over(self, other: Span) -> Span:
        """How much more than another factor; that may be at either of its ends."""
        return Span(self.low / other.high, self.high / other.low)


KERNELS: Mapping[Runtime, Mapping[int, Span]] = {
    Runtime.ONNXRUNTIME: {32: Span(1.0, 1.0), 16: Span(0.85, 1.05), 8: Span(1.7, 2.8), 4: Span(0.25, 0.95), 2: Span(0.3, 0.5)},
    Runtime.OPENVINO: {32: Span(1.5, 5.8), 16: Span(1.5, 5.8), 8: Span(2.1, 9.8)},
}
"""Speed by bits of a weight, against float32 on onnxruntime's own kernels. 4 bits and less: weights alone, unpacked for each product;
that is for memory, and for generating token by token, not for whole sequences. OpenVINO computes floats of any size in bf16:
up to 2.9 times as fast without matrix units, more with them."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done. `quantized`: the share of weights that get `bits`, the others keep 32 (an embedding table often does).
    `sparsity`: share of weights that go. `rank`: share of full rank that each matrix keeps; None: they stay whole. `student`: the
    parameters of a smaller model trained to answer alike, before the other steps; None: there is none.

    Raises OptimizeError for what is impossible or would save nothing.
    """

    bits: int = FLOAT_BITS
    quantized: float = 1.0
    sparsity: float = 0.0
    pruning: Pruning = Pruning.STRUCTURED
    rank: float | None = None
    student: int | None = None
    runtime: Runtime = Runtime.ONNXRUNTIME

    def __post_init__(self) -> None:
        known = KERNELS[self.runtime]
        if self.bits not in known:
            raise OptimizeError(
                f"{self.bits} bits: nothing is known of that on {self.runtime.value}; known are {', '.join(map(str, known))}"
            )
        if not 0 < self.quantized <= 1:
            raise OptimizeError(f"a quantized share of {self.quantized:g}: give one above 0, up to 1")
        if self.quantized < 1 and self.bits == FLOAT_BITS:
            raise OptimizeError(f"a quantized share of {self.quantized:g} at {FLOAT_BITS} bits says nothing; give fewer bits")
        if not 0 <= self.sparsity < 1:
            raise OptimizeError(f"a sparsity of {self.sparsity:g}: give a share from 0 to below 1")
        if self.rank is not None and not 0 < self.rank < 0.5:
            raise OptimizeError(
                f"a rank of {self.rank:g} saves nothing: two factors have as many weights as the matrix from 0.5 on"
            )
        if self.student is not None and self.student < 1:
            raise OptimizeError(f"a student of {self.student} parameters; give at least 1")

    def share_left(self, n_parameters: int) -> float:
        """The weights that are computed with afterwards, as a share of those before."""
        left = 1.0 if self.student is None else self.student / n_parameters
        left *= 1.0 if self.rank is None else 2 * self.rank
        return left * (1 - self.sparsity if self.pruning is Pruning.STRUCTURED else 1)


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a version: its file's bytes, how the process grew by its largest batch, and the median of one row in seconds.

    `label` and `size` name it and what was timed, for people.
    """

    label: str
    size: str
    n_parameters: int
    file_bytes: int
    grown_bytes: int
    p50_s: float
    runtime: Runtime = Runtime.ONNXRUNTIME

    @property
    def bits(self) -> int:
        """Of its weights, by the size of its file: the nearest that weights come in."""
        found = 8 * self.file_bytes / max(1, self.n_parameters)
        return min((32, 16, 8, 4, 2), key=lambda bits: abs(bits - found))


@dataclass(frozen=True, slots=True)
class Assumed:
    """Where nothing was measured: rows times tokens or pixels that each weight is used for, and the machine's cores."""

    positions: int = 1
    cores: int = 1
    gflops_per_core: float = GFLOPS_PER_CORE


@dataclass(frozen=True, slots=True)
class Estimate:
    """`speed_up`: how many times the model before. `latency_s`: one row. `reasons` are for the risk; `assumptions` and `measured`
    say where figures are from."""

    n_parameters: int
    size_bytes: int
    size_ratio: float
    memory_bytes: int
    speed_up: Span
    latency_s: Span
    risk: Risk
    reasons: tuple[str, ...]
    assumptions: tuple[str, ...]
    measured: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "risk": self.risk.value}


def estimate(n_parameters: int, change: Change, basis: Measured | Assumed) -> Estimate:
    """`basis` may be the model itself, or one like it of another size."""
    if n_parameters < 1:
        raise OptimizeError(f"{n_parameters} parameters; give at least 1")
    is_same = isinstance(basis, Measured) and basis.n_parameters == n_parameters
    before = basis.file_bytes if isinstance(basis, Measured) and is_same else n_parameters * FLOAT_BITS // 8
    left = change.share_left(n_parameters)
    stays = (
        is_same and left == 1 and change == Change(basis.bits, runtime=basis.runtime) if isinstance(basis, Measured) else False
    )
    size = before if stays else round(_stored(n_parameters, change) * _bits_each(change) / 8)
    speed_up = Span(1.0, 1.0) if stays else _speed_up(change, left, basis)
    risk, reasons = _risk(n_parameters, change, basis)
    assumptions, measured = _sources(change, basis, n_parameters, stays)
    return Estimate(
        n_parameters=round(_stored(n_parameters, change)),
        size_bytes=size,
        size_ratio=size / before,
        memory_bytes=size + (basis.grown_bytes if isinstance(basis, Measured) else 0),
        speed_up=speed_up,
        latency_s=_latency(n_parameters, speed_up, basis),
        risk=risk,
        reasons=reasons,
        assumptions=assumptions,
        measured=measured,
    )


def _stored(n_parameters: int, change: Change) -> float:
    """Weights in the file: zeros are written like any others."""
    return n_parameters * change.share_left(n_parameters)


def _bits_each(change: Change) -> float:
    """Bits for a weight, on average."""
    own = change.bits + (BLOCK_OVERHEAD_BITS if change.bits <= 4 else 0.0)
    return change.quantized * own + (1 - change.quantized) * FLOAT_BITS


def _speed_up(change: Change, left: float, basis: Measured | Assumed) -> Span:
    now, runtime = (basis.bits, basis.runtime) if isinstance(basis, Measured) else (FLOAT_BITS, Runtime.ONNXRUNTIME)
    stays = (now, runtime) == (change.bits, change.runtime)
    by_bits = Span(1.0, 1.0) if stays else KERNELS[change.runtime][change.bits].over(KERNELS[runtime][now])
    return by_bits.times(_by_size(1 / left))


def _by_size(times_smaller: float) -> Span:
    ends = sorted(times_smaller**exponent for exponent in SIZE_EXPONENTS)
    return Span(ends[0], ends[1])


def _latency(n_parameters: int, speed_up: Span, basis: Measured | Assumed) -> Span:
    """Seconds for one row: the slower figure is the higher one."""
    if isinstance(basis, Assumed):
        seconds = 2 * n_parameters * basis.positions / (basis.gflops_per_core * 1e9 * basis.cores)
        before = Span(seconds, seconds)
    else:
        before = Span(basis.p50_s, basis.p50_s).times(_by_size(n_parameters / basis.n_parameters))
    return before.over(speed_up)


def _risk(n_parameters: int, change: Change, basis: Measured | Assumed) -> tuple[Risk, tuple[str, ...]]:
    """The greatest of the steps'; two of medium risk make a high one, as their errors add up."""
    found = [*_risk_of_bits(change, basis), *_risk_of_structure(n_parameters, change)]
    if not found:
        return Risk.LOW, ("the answers stay as they are",)
    risks = [risk for risk, _ in found]
    reasons = tuple(reason for _, reason in found)
    if Risk.HIGH in risks:
        return Risk.HIGH, reasons
    if risks.count(Risk.MEDIUM) > 1:
        return Risk.HIGH, (*reasons, "the errors of several steps add up")
    return (Risk.MEDIUM if Risk.MEDIUM in risks else Risk.LOW), reasons


def _risk_of_bits(change: Change, basis: Measured | Assumed) -> list[tuple[Risk, str]]:
    bits, runtime = (basis.bits, basis.runtime) if isinstance(basis, Measured) else (FLOAT_BITS, Runtime.ONNXRUNTIME)
    if change.bits >= bits:
        becomes_bf16 = change.runtime is Runtime.OPENVINO and runtime is not Runtime.OPENVINO
        return [(Risk.LOW, "computed in bf16: cosine 0.9999 and more was seen")] if becomes_bf16 else []
    if change.bits == 16:
        return [(Risk.LOW, "16 bits: cosine 0.9999 and more was seen")]
    if change.bits == 8:
        return [(Risk.MEDIUM, "8 bits: cosine 0.993 to 0.999 was seen; with everything quantized, sensitive layers too, 0.45")]
    return [
        (
            Risk.HIGH,
            f"{change.bits} bits: 4 kept 70 to 81 % of nearest neighbours and 90 to 98 % of greedy tokens, 2 kept 82 % of those",
        )
    ]


def _risk_of_structure(n_parameters: int, change: Change) -> list[tuple[Risk, str]]:
    found = []
    if change.sparsity:
        limits = (0.0, 0.3) if change.pruning is Pruning.STRUCTURED else (0.3, 0.7)
        found.append(
            (
                _grade(change.sparsity, limits),
                f"{change.pruning.value} pruning of {change.sparsity:.0%}: train it again afterwards",
            )
        )
    if change.rank is not None:
        found.append((_grade(1 - change.rank, (0.0, 0.75)), f"rank {change.rank:g}: train it again afterwards"))
    if change.student is not None:
        share = change.student / n_parameters
        found.append(
            (_grade(1 - share, (0.0, 0.9)), f"a student of {share:.0%} of the size: it depends on the task; has to be trained")
        )
    return found


def _grade(value: float, limits: tuple[float, float]) -> Risk:
    return Risk.LOW if value <= limits[0] else Risk.MEDIUM if value <= limits[1] else Risk.HIGH


def _sources(
    change: Change, basis: Measured | Assumed, n_parameters: int, stays: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    assumptions, measured = [], []
    if isinstance(basis, Measured):
        measured.append(
            f"{basis.label}: one row{basis.size} takes {basis.p50_s * 1e3:.3g} ms (p50); its file has {basis.file_bytes:,} bytes"
        )
        measured.append(
            f"{basis.label}: the process grew by {basis.grown_bytes:,} bytes by the largest batch; taken as they are"
        )
        if basis.n_parameters != n_parameters:
            assumptions.append(
                f"a model like {basis.label}, {n_parameters / basis.n_parameters:.3g} times its size: {_power()}"
            )
    else:
        assumptions.append(
            f"2 operations for each parameter at {basis.positions} position(s), {basis.gflops_per_core:g} GFLOP/s on each of "
            f"{basis.cores} core(s); right for dense layers, too little for convolutions: name a version like it instead"
        )
        assumptions.append("memory is that of the weights; what lies between layers is not in it")
    return tuple([*assumptions, *([] if stays else _change_assumptions(change, n_parameters))]), tuple(measured)


def _change_assumptions(change: Change, n_parameters: int) -> list[str]:
    kernels = KERNELS[change.runtime][change.bits]
    found = []
    if change.bits != FLOAT_BITS or change.runtime is not Runtime.ONNXRUNTIME:
        found.append(
            f"{change.bits} bits on {change.runtime.value}: {kernels.low:g} to {kernels.high:g} times as fast as float32 on onnxruntime"
        )
    if change.runtime is Runtime.OPENVINO:
        found.append("a model of few microseconds gets slower there, up to three times")
    if change.bits <= 4:
        found.append(f"a scale of 32 bits for each block of 32 weights: {BLOCK_OVERHEAD_BITS:g} bit more for each")
        found.append("that speed is of whole sequences; token by token memory is the limit, and fewer bits are faster")
    if change.quantized < 1:
        found.append(f"{1 - change.quantized:.0%} of the weights keep {FLOAT_BITS} bits")
    if change.sparsity and change.pruning is Pruning.UNSTRUCTURED:
        found.append("single zeros are stored and computed like any number: nothing is gained but what an archive saves")
    if change.rank is not None:
        found.append("all matrices are square, and all are factored")
    if change.share_left(n_parameters) != 1:
        found.append(_power())
    return found


def _power() -> str:
    return f"time goes with the weights to the power of {SIZE_EXPONENTS[0]:g} to {SIZE_EXPONENTS[1]:g}"
