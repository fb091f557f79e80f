"""model.toml: what people write, and what they are told when it is wrong."""

import math
from pathlib import Path

import pytest

from server.contract.classes import Classes, ServiceClass
from server.contract.errors import ContractError
from server.contract.wants import FILE, Wants, read_wants


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "demo" / FILE
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


CLASSES = Classes((ServiceClass("now", 0.01, True), ServiceClass("interactive", 0.05), ServiceClass("batch", 2.5, True)), 2)
ONE = Classes((ServiceClass("all", 0.05),), 1)


@pytest.mark.parametrize(
    "wants",
    [
        Wants(0.02), Wants(0.0123456), Wants(1.5, 8, 2, 1), Wants(0.05, instances=3), Wants(0.05, declared=CLASSES),
        Wants(0.05, 4, declared=ONE), Wants(0.5, gap_s=0.05), Wants(0.5, slots=16), Wants(0.5, threads=2, gap_s=0.0251, slots=8),
    ],
)  # fmt: skip
def test_round_trip(wants: Wants, tmp_path: Path) -> None:
    found = read_wants(written(tmp_path, wants.to_toml()))
    assert math.isclose(found.slo_s, wants.slo_s)
    assert (found.max_rows, found.instances, found.threads) == (wants.max_rows, wants.instances, wants.threads)
    assert (found.gap_s, found.slots) == (wants.gap_s, wants.slots)
    assert found.declared == wants.declared


@pytest.mark.parametrize("declared", [None, CLASSES, ONE])
@pytest.mark.parametrize("slo_s", [0.03, 0.01, 2.5, None])
def test_other_objectives_leave_a_file_that_can_be_read(declared: Classes | None, slo_s: float | None, tmp_path: Path) -> None:
    """Classes without an SLO of their own go with the model's, the default one always."""
    (tmp_path / "before").mkdir()
    before = read_wants(written(tmp_path / "before", Wants(0.05, 4, declared=declared).to_toml()))
    found = read_wants(written(tmp_path, before.asked(slo_s, 0.02).to_toml()))
    assert (found.slo_s, found.gap_s, found.max_rows) == (slo_s or 0.05, 0.02, 4)
    if declared is not None:
        own = {one.name: one.slo_s for one in declared.all if one.slo_s != 0.05}
        assert {one.name: one.slo_s for one in found.classes.all} == {
            one.name: own.get(one.name, slo_s or 0.05) for one in declared.all
        }
        assert found.classes.default == declared.default
        assert found.asked(0.05).classes == before.classes, "one whose own SLO was the model's for a while has it still"


def test_the_lines_shown_as_comments_are_right_once_they_are_none(tmp_path: Path) -> None:
    text = Wants(0.05).to_toml()
    at = text.index("# [[classes]]")
    classes = read_wants(written(tmp_path, text[:at] + text[at:].replace("# ", ""))).classes
    assert classes == Classes((ServiceClass("interactive", 0.05), ServiceClass("batch", 2.0, True)), 1)


def test_without_classes_there_are_three_alike() -> None:
    classes = Wants(0.05).classes
    assert {one.slo_s for one in classes.all} == {0.05}
    assert str(classes) == "1 (high), 2 (normal), 3 (low)"
    assert classes.of(0).name == "normal"


def declared(*classes: str) -> str:
    return 'slo = "50ms"\n' + "".join(f"[[classes]]\n{one}\n" for one in classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (declared('nam = "a"'), "demo/model.toml: classes[0]: unknown field 'nam'; the known fields are default, name, slo"),
        (declared("name = 1"), "classes[0]: field 'name' must be a string in quotes"),
        (declared('name = "1st"'), "'1st' is no name for a class; write a letter and up to 31 more"),
        (declared('name = "a"', 'name = "a"'), "two classes are called 'a'"),
        (declared('name = "a"\nslo = "5"'), "classes[0]: slo: '5' is not a duration"),
        (declared('name = "a"\nslo = "5ms"'), "class 'a' is the default, so its SLO is the model's; leave its slo out"),
        (declared('name = "a"', 'name = "b"\nslo = "1s"\ndefault = true'), "class 'b' is the default, so its SLO is the"),
        (declared('name = "a"\ndefault = true', 'name = "b"\ndefault = true'), "2 classes say default = true; one may"),
        (declared('name = "a"\ndefault = 1'), "classes[0]: field 'default' must be true or false"),
        (declared(*(f'name = "c{n}"' for n in range(9))), "9 classes; 1 to 8 are possible, or none at all"),
        ('slo = "50ms"\nclasses = []', "0 classes; 1 to 8 are possible"),
        ('slo = "50ms"\n[classes]\na = 1', "field 'classes' must be a list, found an object"),
    ],
)
def test_refuses_classes_that_make_no_sense(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        read_wants(written(tmp_path, text))
    assert message in str(caught.value)


def test_the_file_shows_the_overrides_to_who_looks_for_them() -> None:
    assert Wants(0.05, threads=2).to_toml() == (
        'slo = "50ms"  # answers are wanted within this time, queueing included\n\n'
        "# Experts only; without these lines ferry uses what it measured.\n# max_rows = 1\n# instances = 1\nthreads = 2\n\n"
        "# Classes of requests, the most urgent first; the first is the default, unless another says default = true.\n"
        "# Without these lines there are three: high, normal (the default) and low, all with the SLO above.\n"
        '# [[classes]]\n# name = "interactive"\n# [[classes]]\n# name = "batch"\n# slo = "2s"\n'
    )


def test_a_model_that_generates_shows_what_only_such_models_have() -> None:
    assert (
        Wants(0.5, gap_s=0.05)
        .to_toml()
        .startswith(
            'slo = "500ms"  # answers are wanted within this time, queueing included\n'
            'gap = "50ms"  # each token after another; slo is that of the first one\n\n'
            "# Experts only; without these lines ferry uses what it measured.\n"
            "# max_rows = 1\n# instances = 1\n# threads = 1\n# slots = 1\n"
        )
    )
    assert "slots = 8\n" in Wants(0.5, slots=8).to_toml()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "demo/model.toml: field 'slo' is missing"),
        ("slo = 20", "demo/model.toml: field 'slo' must be a string in quotes, found an integer"),
        ('slo = "20"', "demo/model.toml: slo: '20' is not a duration; write a positive number with a unit, like 20ms"),
        ('slo = "20ms"\nmax_rows = 0', "demo/model.toml: field 'max_rows' must be at least 1, found 0"),
        (
            'slo = "20ms"\nbatch = 4',
            "unknown field 'batch'; the known fields are classes, gap, instances, max_rows, slo, slots, threads",
        ),
        ('slo = "20ms"\ngap = 50', "demo/model.toml: field 'gap' must be a string in quotes, found an integer"),
        ('slo = "20ms"\ngap = "0ms"', "demo/model.toml: gap: '0ms' is not a duration"),
        ('slo = "20ms"\nslots = 0', "demo/model.toml: field 'slots' must be at least 1, found 0"),
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
