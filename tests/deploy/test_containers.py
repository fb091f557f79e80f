"""Dockerfile and compose files name only what there is: files, extras, stages, ports; and no stage runs as root."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from server.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
COMPOSE = ("docker-compose.yml", "docker-compose.gpu.yml")


def stages() -> dict[str, tuple[str, str]]:
    """Name → (what it starts from, its lines), in order."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", TEXT, flags=re.MULTILINE)[1:]
    return {name: (start, body) for start, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def compose(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


def test_the_processors_stage_is_built_when_none_is_named() -> None:
    assert list(stages()) == ["base", "gpu", "cpu"]
    assert [start for start, _ in stages().values()] == ["python:3.11-slim", "base", "base"]


def test_what_is_copied_is_there() -> None:
    copied = [word for line in re.findall(r"^COPY (.+)$", TEXT, re.MULTILINE) for word in line.split()[:-1]]
    assert {"server", "pyproject.toml"} <= set(copied)
    assert [word for word in copied if not (ROOT / word).exists()] == []


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_extras_are_those_of_the_package_and_nobody_is_root(name: str) -> None:
    body = stages()[name][1]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = re.findall(r"^ARG EXTRAS=(\S+)$", body, re.MULTILINE)
    assert set(asked.split(",")) <= set(extras)
    assert re.findall(r"^(?:USER|RUN|ENV)\b.*", body, re.MULTILINE)[-1] == "USER ferry"


def test_only_the_cards_build_of_onnx_runtime_is_left() -> None:
    body = stages()["gpu"][1]
    assert body.index("pip uninstall --yes onnxruntime onnxruntime-gpu") < body.index(
        'pip install --no-cache-dir "onnxruntime-gpu'
    )
    gpu = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["gpu"]
    (wanted,) = [one for one in gpu if one.startswith("onnxruntime-gpu")]
    assert f'"{wanted}"' in body


def test_ports_are_the_servers() -> None:
    fields = Settings.model_fields
    ports = {str(fields[name].default) for name in ("port", "grpc_port", "metrics_port")}
    (exposed,) = re.findall(r"^EXPOSE (.+)$", TEXT, re.MULTILINE)
    assert set(exposed.split()) == ports
    assert {one.partition(":")[2] for one in compose("docker-compose.yml")["services"]["ferry"]["ports"]} == ports


def test_environment_variables_are_settings() -> None:
    named = re.findall(r"FERRY_([A-Z_]+)", TEXT + "".join((ROOT / name).read_text() for name in COMPOSE))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_folders_that_are_mounted_are_there() -> None:
    services = compose("docker-compose.yml")["services"].values()
    mounted = [volume.split(":")[0] for service in services for volume in service.get("volumes", ()) if volume.startswith("./")]
    assert mounted
    assert [folder for folder in mounted if not (ROOT / folder).is_dir()] == []


def test_with_a_card_the_same_service_is_built_for_it_and_has_one() -> None:
    plain, card = (compose(name)["services"] for name in COMPOSE)
    assert set(card) <= set(plain)
    assert card["ferry"]["build"]["target"] in stages()
    (device,) = card["ferry"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def provisioned(path: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    content: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / path).read_text())
    return content


def test_prometheus_scrapes_the_servers_metrics_port_and_grafana_asks_prometheus() -> None:
    services = compose("docker-compose.yml")["services"]
    job = provisioned("prometheus/prometheus.yml")["scrape_configs"][0]
    assert job["static_configs"] == [{"targets": [f"ferry:{Settings.model_fields['metrics_port'].default}"]}]
    (source,) = provisioned("grafana/datasources/prometheus.yml")["datasources"]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert source["type"] == "prometheus"
    assert host in services
    assert port in {one.rpartition(":")[2] for one in services[host]["ports"]}
    assert source["jsonData"]["timeInterval"] == provisioned("prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert {name for one in services.values() for name in one.get("depends_on", ())} <= set(services)


def test_grafana_finds_its_dashboards_where_they_are_mounted() -> None:
    mounts = dict(volume.split(":")[1::-1] for volume in compose("docker-compose.yml")["services"]["grafana"]["volumes"])
    for kind, file in (("datasources", "prometheus.yml"), ("dashboards", "ferry.yml")):
        assert (ROOT / mounts[f"/etc/grafana/provisioning/{kind}"] / file).is_file()
    (provider,) = provisioned("grafana/providers/ferry.yml")["providers"]
    assert [file.name for file in (ROOT / mounts[provider["options"]["path"]]).iterdir()] == ["ferry.json"]


def test_grafana_is_for_this_machine_and_has_no_default_password() -> None:
    grafana = compose("docker-compose.yml")["services"]["grafana"]
    assert [port.rpartition(":")[0] for port in grafana["ports"]] == ["127.0.0.1:3000"]
    settings = grafana["environment"]
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert settings["GF_AUTH_BASIC_ENABLED"] == "false"


def test_images_are_pinned() -> None:
    images = [one["image"] for one in compose("docker-compose.yml")["services"].values() if "image" in one]
    assert len(images) == 2
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+$", image)] == []
