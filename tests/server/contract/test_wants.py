"""model.toml: what people write, and what they are told when it is wrong."""

import math
from pathlib import Path

import pytest

from server.contract.errors import ContractError
from server.contract.wants import FILE, Wants, read_wants


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "demo" / FILE
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("wants", [Wants(0.02), Wants(0.0123456), Wants(1.5, 8, 2, 1), Wants(0.05, instances=3)])
def test_round_trip(wants: Wants, tmp_path: Path) -> None:
    found = read_wants(written(tmp_path, wants.to_toml()))
    assert math.isclose(found.slo_s, wants.slo_s)
    assert (found.max_rows, found.instances, found.threads) == (wants.max_rows, wants.instances, wants.threads)


def test_the_file_shows_the_overrides_to_who_looks_for_them() -> None:
    assert Wants(0.05, threads=2).to_toml() == (
        'slo = "50ms"  # answers are wanted within this time, queueing included\n\n'
        "# Experts only; without these lines ferry uses what it measured.\n# max_rows = 1\n# instances = 1\nthreads = 2\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "demo/model.toml: field 'slo' is missing"),
        ("slo = 20", "demo/model.toml: field 'slo' must be a string in quotes, found an integer"),
        ('slo = "20"', "demo/model.toml: slo: '20' is not a duration; write a positive number with a unit, like 20ms"),
        ('slo = "20ms"\nmax_rows = 0', "demo/model.toml: field 'max_rows' must be at least 1, found 0"),
        ('slo = "20ms"\nbatch = 4', "unknown field 'batch'; the known fields are instances, max_rows, slo, threads"),
        ("slo = ", "demo/model.toml: not valid TOML: "),
        (b'slo = "\xff"', "demo/model.toml: not valid TOML: "),
        ("max_rows = " + "9" * 5000, "demo/model.toml: not valid TOML: "),
        ("slo = " + "[" * 5000, "demo/model.toml: not valid TOML: "),
    ],
)
def test_refuses_what_it_does_not_understand(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        read_wants(written(tmp_path, text))
    assert message in str(caught.value)


def test_says_how_to_make_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r'demo/model.toml: missing; create it with a line like: slo = "50ms"'):
        read_wants(tmp_path / "demo" / FILE)


def test_a_folder_in_its_place_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "demo" / FILE).mkdir(parents=True)
    with pytest.raises(ContractError, match=r"demo/model.toml: cannot be read \(Is a directory\); it must be a file"):
        read_wants(tmp_path / "demo" / FILE)
