"""What graphics card something was measured on or built for, and whether a file that was built for one can run on another. No library
is asked here: who knows the card says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from server.contract.fields import Fields


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One card. `compute_capability`: as "9.0". `driver`: its version. `cuda`: the newest CUDA that the driver knows, as "13.0"."""

    name: str
    compute_capability: str
    driver: str
    cuda: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @staticmethod
    def from_json(fields: Fields) -> Accelerator:
        fields.only(Accelerator.__slots__)
        return Accelerator(*(fields.text(name) for name in Accelerator.__slots__))

    def difference(self, other: Accelerator) -> str | None:
        """The first thing in which `other` differs, in words, or None when the two are the same."""
        for name in Accelerator.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{_WORDS[name]} is {theirs!r} here, {mine!r} there"
        return None

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.compute_capability}, driver {self.driver}, CUDA {self.cuda}"


_WORDS = {
    "name": "the card", "compute_capability": "the card's compute capability", "driver": "the card's driver", "cuda": "the driver's CUDA",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BuiltFor:
    """What a file that was compiled for one card needs. `runtime`: the library that compiled it ("tensorrt 11.4.0.106")."""

    accelerator: Accelerator
    runtime: str

    def to_json(self) -> dict[str, object]:
        return {"accelerator": self.accelerator.to_json(), "runtime": self.runtime}

    @staticmethod
    def from_json(fields: Fields) -> BuiltFor:
        fields.only(BuiltFor.__slots__)
        return BuiltFor(Accelerator.from_json(fields.child("accelerator")), fields.text("runtime"))

    def mismatch(self, accelerator: Accelerator | None, runtime: str) -> str | None:
        """Why the file cannot run on this card by this library; None: it can. The driver may be another one: it decides what is
        quick, not what can run, and a driver that is too old is refused by the library itself."""
        wanted = self.accelerator
        if accelerator is None:
            return f"it was built for {wanted.name}, there is no such card here"
        if (wanted.name, wanted.compute_capability) != (accelerator.name, accelerator.compute_capability):
            return (
                f"it was built for {wanted.name} (compute capability {wanted.compute_capability}), the card here is "
                f"{accelerator.name} ({accelerator.compute_capability}); optimize the model again on this machine"
            )
        if self.runtime != runtime:
            return f"it was built by {self.runtime}, here is {runtime}; optimize the model again, or install the other version"
        return None
