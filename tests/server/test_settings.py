"""Settings: default < file < environment < flag, and every bad value is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.settings import Settings, SettingsError, profile_cache_folder, read_settings, settings_table, tell_libraries


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FERRY_")]:
        monkeypatch.delenv(name)


def test_each_source_overrides_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ferry.toml"
    file.write_text("port = 1\n")
    assert read_settings({}, None).port == 8000
    assert read_settings({}, file).port == 1
    monkeypatch.setenv("FERRY_PORT", "2")
    assert read_settings({}, file).port == 2
    assert read_settings({"port": "3"}, file).port == 3
    assert read_settings({}, file).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "seventy"), ("port", "70000"), ("port", "-1"), ("max_body_bytes", "0"), ("max_upload_bytes", "many"),
        ("registration_timeout_s", "0"), ("drain_timeout_s", "0"), ("log_level", "loud"), ("grpc_port", "on"), ("grpc_port", "70000"), ("admin_token", "short"),
        ("api_keys", "short"), ("api_keys", "long-enough,"), ("api_keys", "two words"), ("api_keys", "ein-schlüssel"),
        ("client_share", "2"), ("client_share", "-0.1"), ("client_share", "half"), ("client_burst_s", "0"),
        ("client_header", "x key"), ("client_header", "x:"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_whatever_its_source(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({name: value}, None)
    file = tmp_path / "ferry.toml"
    file.write_text(f'{name} = "{value}"\n')
    with pytest.raises(SettingsError, match=name):
        read_settings({}, file)
    monkeypatch.setenv(f"FERRY_{name.upper()}", value)
    with pytest.raises(SettingsError, match=name):
        read_settings({}, None)


def test_texts_are_tokenized_on_one_thread_unless_somebody_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    tell_libraries()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    tell_libraries()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


@pytest.mark.parametrize("secret", ["admin_token", "api_keys"])
def test_a_token_is_never_printed(secret: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({secret: "hunter2"}, None)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"), [("prot = 1\n", "prot"), ("port = \n", "settings file"), ("[port]\nx = 1\n", "port")],
)  # fmt: skip
def test_a_bad_file_is_refused(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "ferry.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_settings({}, file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nosuch\.toml"):
        read_settings({}, tmp_path / "nosuch.toml")


def test_an_empty_variable_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRY_ADMIN_TOKEN", "")
    assert read_settings({}, None).admin_token is None


def test_the_table_lists_every_setting() -> None:
    table = settings_table()
    for name in Settings.model_fields:
        assert f"FERRY_{name.upper()}" in table
        assert "--" + name.replace("_", "-") in table


@pytest.mark.parametrize(
    ("flags", "environment", "folder"),
    [
        ({}, {"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/ferry/profiles"),
        ({}, {"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/ferry/profiles"),
        ({}, {"XDG_CACHE_HOME": "", "HOME": ""}, None),
        ({"profile_cache": "off"}, {"HOME": "/h"}, None),
        ({"profile_cache": "/p"}, {"HOME": "/h"}, "/p"),
        ({}, {"HOME": "/h", "FERRY_PROFILE_CACHE": "off"}, None),
        ({}, {"HOME": "/h", "FERRY_PROFILE_CACHE": "/p"}, "/p"),
    ],
)
def test_where_measured_profiles_are_kept(
    flags: dict[str, str], environment: dict[str, str], folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert profile_cache_folder(read_settings(flags, None)) == (Path(folder) if folder else None)
