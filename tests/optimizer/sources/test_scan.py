"""What a file depends on is found without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.errors import SourceError
from optimizer.sources.scan import scan_file


def test_follows_imports_packages_and_named_files(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for name, text in {
        "model.py": "import numpy\nimport helper\nfrom parts.deep import x\nNAME = 'n'\n_F = 'weights.bin'\n",
        "helper.py": "import second\nimport json\n",
        "second.py": "",
        "unused.py": "",
        "weights.bin": "1",
        "parts/__init__.py": "",
        "parts/deep.py": "x = 1\n",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    scan = scan_file(tmp_path / "model.py")
    found = {path.relative_to(tmp_path).as_posix() for path in scan.files}
    assert found == {"model.py", "helper.py", "second.py", "weights.bin", "parts/__init__.py", "parts/deep.py"}
    assert scan.packages == {"numpy"}
    assert scan.name == "n"
    assert scan.settings == {"NAME"}
    before = scan.digest(tmp_path)
    (tmp_path / "weights.bin").write_text("2", encoding="utf-8")
    assert scan_file(tmp_path / "model.py").digest(tmp_path) != before


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="not text in UTF-8"):
        scan_file(path)
