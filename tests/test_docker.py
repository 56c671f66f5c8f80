"""The files under docker/ say the same as the rest of the checkout."""

import re
import tomllib
from pathlib import Path

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
