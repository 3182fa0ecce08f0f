"""The examples in demo_app/deploy/container/ say what this forkserve understands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from forkserve.config.settings import Settings

HERE = Path(__file__).parents[2]
EXAMPLES = HERE / "demo_app/deploy/container"

ENOUGH = Settings("").graceful_timeout + 1
"""Seconds that a stop takes at most."""


def instruction(name: str) -> str:
    """What follows it in the Dockerfile."""
    found = re.findall(rf"^{name} (.*)$", (EXAMPLES / "Dockerfile").read_text(), re.M)
    assert len(found) == 1
    return str(found[0])


def of_kind(kind: str) -> Any:
    documents = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    (found,) = [document for document in documents if document["kind"] == kind]
    return found["spec"]


def the_command(arguments: list[str]) -> list[str]:
    # The exec form is JSON.
    entry = json.loads(instruction("ENTRYPOINT"))
    assert entry == ["forkserve"]
    return [sys.executable, "-m", *entry, *arguments]


@pytest.mark.parametrize("whose", ["Dockerfile", "kubernetes"])
def test_the_command_is_understood_and_the_app_is_there(whose: str) -> None:
    if whose == "Dockerfile":
        arguments = json.loads(instruction("CMD"))
    else:
        arguments = of_kind("Deployment")["template"]["spec"]["containers"][0]["args"]
    assert f"0.0.0.0:{instruction('EXPOSE')}" in arguments
    command = [*the_command(arguments), "--check-config"]
    ran = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_is_copied_is_there() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (EXAMPLES / "Dockerfile").read_text(), re.M)
    names = " ".join(copied).split()
    assert names
    assert [name for name in names if not (HERE / name).exists()] == []


def test_compose_leaves_time_for_a_stop_and_builds_from_the_root() -> None:
    (service,) = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"].values()
    assert float(service["stop_grace_period"].removesuffix("s")) > ENOUGH
    context = (EXAMPLES / service["build"]["context"]).resolve()
    assert context == HERE
    assert (context / service["build"]["dockerfile"]).samefile(EXAMPLES / "Dockerfile")
    assert service["ports"] == [f"8000:{instruction('EXPOSE')}"]


def test_kubernetes_leaves_time_for_a_stop_and_asks_the_right_port() -> None:
    pod = of_kind("Deployment")["template"]["spec"]
    (container,) = pod["containers"]
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + ENOUGH
    (port,) = container["ports"]
    assert port["containerPort"] == int(instruction("EXPOSE"))
    assert container["readinessProbe"]["httpGet"]["port"] == port["name"]
    (service,) = of_kind("Service")["ports"]
    assert service["targetPort"] == port["name"]
    labels = of_kind("Deployment")["template"]["metadata"]["labels"]
    assert of_kind("Service")["selector"] == labels
