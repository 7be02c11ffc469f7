"""What is shipped for operators fits the program: flags, ports, paths, probes."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from ccm_runtime.cli import app
from ccm_runtime.config import ServerConfig

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "systemd/ccm.service").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
OBJECTS = {
    found["kind"]: found for found in yaml.safe_load_all((DEPLOY / "kubernetes/ccm.yaml").read_text(encoding="utf-8"))
}
POD = OBJECTS["StatefulSet"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


def resolved(words):
    """Return the settings of `ccm serve ...`, as the command line itself reads them."""
    command = get_command(app).commands["serve"]
    context = command.make_context("serve", list(words))
    flags = {name: value for name, value in context.params.items() if value is not None}
    return ServerConfig.resolve(flags, {})


def started_by_systemd():
    program, command, *words = shlex.split(re.search(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)[1])
    assert ("/opt/ccm/bin/ccm", "serve") == (program, command)
    return resolved(words)


def started_by_kubernetes():
    assert "serve" == CONTAINER["args"][0]
    return resolved(CONTAINER["args"][1:])


def test_the_unit_starts_a_server_and_lets_it_drain():
    config = started_by_systemd()
    assert int(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1]) > config.drain_s
    assert config.store.is_relative_to("/var/lib/" + re.search(r"StateDirectory=(\w+)", UNIT)[1])
    assert "127.0.0.1" == config.host


def test_the_manifests_start_a_server_that_may_be_reached_and_let_it_drain():
    config = started_by_kubernetes()
    assert "0.0.0.0" == config.host  # noqa: S104 (with TLS and a token, or it were refused)
    assert POD["terminationGracePeriodSeconds"] > config.drain_s
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert {"grpc": config.port, "metrics": config.metrics_port} == ports
    assert ports == {port["targetPort"]: port["port"] for port in OBJECTS["Service"]["spec"]["ports"]}
    assert sorted(ports.values()) == sorted(
        port["port"] for port in OBJECTS["NetworkPolicy"]["spec"]["ingress"][0]["ports"]
    )


def test_every_file_that_the_server_is_told_of_is_mounted():
    config = started_by_kubernetes()
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    files = (*config.bundle, config.tls_cert, config.tls_key, config.token_file, config.public_key, config.store)
    for path in files:
        assert any(path.is_relative_to(mount) for mount in mounts), path
    claims = {claim["metadata"]["name"] for claim in OBJECTS["StatefulSet"]["spec"]["volumeClaimTemplates"]}
    assert set(mounts.values()) == {volume["name"] for volume in POD["volumes"]} | claims


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_what_the_server_answers(probe):
    asked = CONTAINER[probe]["httpGet"]
    assert {"path": "/ready" if probe == "readinessProbe" else "/live", "port": "metrics"} == asked


def test_objects_find_each_other():
    labels = {"app": "ccm"}
    spec = OBJECTS["StatefulSet"]["spec"]
    assert OBJECTS["Service"]["metadata"]["name"] == spec["serviceName"]
    assert labels == spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert (
        labels
        == OBJECTS["Service"]["spec"]["selector"]
        == OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    )


def test_nobody_is_root():
    assert POD["securityContext"]["runAsNonRoot"]
    user = str(POD["securityContext"]["runAsUser"])
    assert f"--uid {user}" in DOCKERFILE
    assert f"USER {user}" in DOCKERFILE
    assert "DynamicUser=yes" in UNIT


def test_the_image_holds_a_server_and_no_torch():
    installed = re.search(r"'\.\[([a-z,]+)\]'", DOCKERFILE)[1].split(",")
    assert ["serve", "redis", "sign"] == installed
    for copied in re.findall(r"^COPY ([^-].*) \S+$", DOCKERFILE, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name
    ports = {int(port) for port in re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)[1].split()}
    config = started_by_kubernetes()
    assert {config.port, config.metrics_port} == ports
