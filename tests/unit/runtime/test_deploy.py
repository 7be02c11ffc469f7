"""What is shipped for operators fits the program: flags, ports, paths, probes."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from ccm_runtime.cli import app
from ccm_runtime.commands.server_process import free_port, listening_process
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import (
    BundleError,
    BundleMissingError,
    ConfigError,
    DependencyMissingError,
    ProviderUnavailableError,
)

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "systemd/ccm.service").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def objects_in(text):
    return {found["kind"]: found for found in yaml.safe_load_all(text)}


def patched(found, changes):
    """A copy of an object after the changes of a JSON patch."""
    changed = copy.deepcopy(found)
    for change in changes:
        *parents, last = (int(part) if part.isdigit() else part for part in change["path"][1:].split("/"))
        place = changed
        for part in parents:
            place = place[part]
        if change["op"] == "test":
            assert change["value"] == place[last]
        elif change["op"] == "remove":
            del place[last]
        else:
            assert (change["op"] == "add") == (last not in place), change
            place[last] = change["value"]
    return changed


ONE = objects_in((DEPLOY / "kubernetes/ccm.yaml").read_text(encoding="utf-8"))
SHARED = DEPLOY / "kubernetes-shared"
OVERLAY = yaml.safe_load((SHARED / "kustomization.yaml").read_text(encoding="utf-8"))
SEVERAL = {**ONE, **objects_in((SHARED / "budget.yaml").read_text(encoding="utf-8"))}
for patch in OVERLAY["patches"]:
    kind = patch["target"]["kind"]
    assert ONE[kind]["metadata"]["name"] == patch["target"]["name"]
    SEVERAL[kind] = patched(ONE[kind], yaml.safe_load(patch["patch"]))
KUBERNETES = pytest.mark.parametrize("objects", [ONE, SEVERAL], ids=["one", "several"])
SECRETS = {("ccm-store", "url"): "rediss://:password@redis:6379/0"}


def pod_in(objects):
    return objects["StatefulSet"]["spec"]["template"]["spec"]


def container_in(objects):
    return pod_in(objects)["containers"][0]


def resolved(words, variables):
    """Return the settings of `ccm serve ...`, as the command line itself reads them."""
    command = get_command(app).commands["serve"]
    context = command.make_context("serve", list(words))
    flags = {name: value for name, value in context.params.items() if value is not None}
    return ServerConfig.resolve(flags, variables)


def started_by_systemd():
    program, command, *words = shlex.split(re.search(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)[1])
    assert ("/opt/ccm/bin/ccm", "serve") == (program, command)
    return resolved(words, {})


def value_of(variable):
    if "value" in variable:
        return variable["value"]
    secret = variable["valueFrom"]["secretKeyRef"]
    return SECRETS[secret["name"], secret["key"]]


def started_by_kubernetes(objects):
    container = container_in(objects)
    assert "serve" == container["args"][0]
    return resolved(container["args"][1:], {each["name"]: value_of(each) for each in container["env"]})


def test_the_unit_starts_a_server_and_lets_it_drain():
    config = started_by_systemd()
    assert int(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1]) > config.drain_s
    assert config.store.is_relative_to("/var/lib/" + re.search(r"StateDirectory=(\w+)", UNIT)[1])
    assert "127.0.0.1" == config.host


def test_the_unit_tries_again_unless_a_restart_mends_nothing():
    hopeless = (ConfigError, DependencyMissingError, BundleMissingError, BundleError, ProviderUnavailableError)
    codes = re.search(r"^RestartPreventExitStatus=(.+)$", UNIT, re.MULTILINE)[1].split()
    assert sorted(error.exit_code for error in hopeless) == [int(code) for code in codes]
    assert re.search(r"^\[Unit\]\n([^\[]*\n)?StartLimitIntervalSec=0\n", UNIT, re.MULTILINE)


@KUBERNETES
def test_the_manifests_start_a_server_that_may_be_reached_and_let_it_drain(objects):
    config = started_by_kubernetes(objects)
    assert "0.0.0.0" == config.host  # noqa: S104 (with TLS and a token, or it were refused)
    assert pod_in(objects)["terminationGracePeriodSeconds"] > config.drain_s
    ports = {port["name"]: port["containerPort"] for port in container_in(objects)["ports"]}
    assert {"grpc": config.port, "metrics": config.metrics_port} == ports
    assert ports == {port["targetPort"]: port["port"] for port in objects["Service"]["spec"]["ports"]}
    assert sorted(ports.values()) == sorted(
        port["port"] for port in objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"]
    )


@KUBERNETES
def test_every_file_that_the_server_is_told_of_is_mounted(objects):
    config = started_by_kubernetes(objects)
    mounts = {mount["mountPath"]: mount["name"] for mount in container_in(objects)["volumeMounts"]}
    files = (*config.bundle, config.tls_cert, config.tls_key, config.token_file, config.public_key, config.store)
    for path in files:
        assert not isinstance(path, Path) or any(path.is_relative_to(mount) for mount in mounts), path
    claims = {claim["metadata"]["name"] for claim in objects["StatefulSet"]["spec"].get("volumeClaimTemplates", ())}
    assert set(mounts.values()) == {volume["name"] for volume in pod_in(objects)["volumes"]} | claims


@KUBERNETES
def test_only_servers_that_share_their_sessions_are_several(objects):
    file = isinstance(started_by_kubernetes(objects).store, Path)
    spec = objects["StatefulSet"]["spec"]
    assert file == (spec["replicas"] == 1) == ("volumeClaimTemplates" in spec)
    ports = {port["port"] for rule in objects["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]}
    assert ports == (set() if file else {6379, 53})


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize(("folder", "objects"), [("kubernetes", ONE), (SHARED.name, SEVERAL)])
def test_kubectl_makes_the_same_of_them(folder, objects):
    made = subprocess.run(["kubectl", "kustomize", DEPLOY / folder], check=True, capture_output=True, text=True).stdout
    assert objects == objects_in(made)


@KUBERNETES
def test_no_service_of_the_cluster_changes_a_setting(objects):
    """A Service `ccm-page` would set CCM_PAGE_PORT=tcp://10.0.0.1:80."""
    assert pod_in(objects)["enableServiceLinks"] is False


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_what_the_server_answers(probe):
    asked = container_in(ONE)[probe]["httpGet"]
    assert {"path": "/ready" if probe == "readinessProbe" else "/live", "port": "metrics"} == asked


def test_objects_find_each_other():
    labels = {"app": "ccm"}
    spec = ONE["StatefulSet"]["spec"]
    assert ONE["Service"]["metadata"]["name"] == spec["serviceName"]
    assert labels == spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert labels == ONE["Service"]["spec"]["selector"]
    assert labels == ONE["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert labels == SEVERAL["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]


def test_nobody_is_root():
    assert pod_in(ONE)["securityContext"]["runAsNonRoot"]
    user = str(pod_in(ONE)["securityContext"]["runAsUser"])
    assert f"--uid {user}" in DOCKERFILE
    assert f"USER {user}" in DOCKERFILE
    assert "DynamicUser=yes" in UNIT


def health(**variables):
    """The exit code of the image's health check."""
    program, *words = json.loads(re.search(r"^HEALTHCHECK .*\n? +CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)[1])
    assert "python" == program
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CCM_")}
    return subprocess.run(
        [sys.executable, *words], env=environ | variables, check=False, capture_output=True
    ).returncode


def test_the_image_is_well_while_its_server_answers():
    port = str(free_port())
    assert 0 == health()
    assert 0 != health(CCM_METRICS_PORT=port)
    with listening_process("ccm_runtime", "serve", "--port", "0", "--drain-s", "0", "--metrics-port", port):
        assert 0 == health(CCM_METRICS_PORT=port)


def test_the_image_holds_a_server_and_no_torch():
    installed = re.search(r"'\.\[([a-z,]+)\]'", DOCKERFILE)[1].split(",")
    assert ["serve", "redis", "sign"] == installed
    for copied in re.findall(r"^COPY ([^-].*) \S+$", DOCKERFILE, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name
    ports = {int(port) for port in re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)[1].split()}
    config = started_by_kubernetes(ONE)
    assert {config.port, config.metrics_port} == ports
