"""The files under docker/ say the same as the rest of the checkout."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from app.topology import load

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"


def test_the_containers_topology_differs_from_the_checkouts_only_in_the_addresses_listened_on() -> None:
    def without_hosts(path: Path) -> dict[str, object]:
        return tomllib.loads(re.sub(r'^host = ".*"$', 'host = "x"', path.read_text(), flags=re.MULTILINE))

    assert without_hosts(DOCKER / "topology.toml") == without_hosts(ROOT / "topology.toml")


def test_every_server_of_the_topology_is_a_service_of_the_compose_file() -> None:
    _, plan = load({"TANDEM_TOPOLOGY": str(DOCKER / "topology.toml")})
    compose = (DOCKER / "compose.yaml").read_text()
    for server in plan.servers:
        assert f"command: [python, -m, ops.server, up, {server.name}]" in compose
        assert f"127.0.0.1:{server.gateway.port}:{server.gateway.port}" in compose
        assert server.gateway.host == "0.0.0.0"


def test_the_image_copies_every_package_of_the_checkout() -> None:
    copied = set(re.findall(r"^COPY (\w+) ", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE))
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= copied, f"the image lacks {packages - copied}"


def services() -> dict[str, Any]:
    """The services of the compose file; aliases and merge keys resolved, variables as they stand."""
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"])


def test_the_cloud_is_started_only_with_its_profile_and_knows_no_redis() -> None:
    found = services()

    assert {name for name, service in found.items() if service.get("profiles") == ["cloud"]} == {"cloud", "mns"}
    assert found["cloud"]["environment"]["TANDEM_PROFILE"] == "cloud"
    assert "TANDEM_REDIS_URL" not in found["cloud"]["environment"]
    assert "redis" not in found["cloud"]["depends_on"]


def test_home_and_the_cloud_are_given_the_same_mns_store_and_keys() -> None:
    found = services()
    names = {"TANDEM_MNS_URL", "TANDEM_CLOUD_STORE", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
             "ALIBABA_CLOUD_SECURITY_TOKEN"}
    told = [{name: found[service]["environment"][name] for name in names} for service in ("server-1", "server-2", "cloud")]

    assert told[0] == told[1] == told[2]


def test_the_ports_that_the_compose_file_tells_of_are_those_of_its_mns_server() -> None:
    text, command = (DOCKER / "compose.yaml").read_text(), services()["mns"]["command"]

    assert f"mns://mns:{command[command.index('--port') + 1]}" in text
    assert f"endpoint=http://mns:{command[command.index('--objects-port') + 1]}" in text
