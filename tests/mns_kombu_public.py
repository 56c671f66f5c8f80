"""Runs kombu's own integration tests of transports on `mns://` against a local server.

    python -m tests.mns_kombu_public CHECKOUT_OF_KOMBU [pytest's arguments]

CHECKOUT_OF_KOMBU is a folder with kombu's sources, of which `t/integration/common.py` is used: the installed wheel does not
carry it, and it is not copied here. Its classes ask for the fixtures `connection`, `invalid_connection` and
`failover_connection`, which are made here.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kombu import Connection

from ops.embedded_redis import free_port
from ops.mns_server import LocalMns
from routing.mns import install
from tests.mns_kombu import KEY, address

_CLASSES = ("BasicFunctionality", "BaseExchangeTypes", "BasePriority", "BaseTimeToLive", "BaseMessage", "BaseFailover")
_OPTIONS = {"visibility_timeout": 30, "wait_time_seconds": 1, "priorities": True}


@pytest.fixture(scope="module")
def mns() -> Iterator[LocalMns]:
    """A local server."""
    install()
    with LocalMns.running(keys=[KEY]) as one:
        yield one


@pytest.fixture
def connection(mns: LocalMns) -> Iterator[Connection]:
    """A connection to it."""
    with Connection(address(mns.port), transport_options=_OPTIONS) as one:
        yield one


@pytest.fixture
def invalid_connection() -> Connection:
    """A connection to where nobody listens."""
    install()
    return Connection(address(free_port()), transport_options=_OPTIONS)


@pytest.fixture
def failover_connection(mns: LocalMns) -> Iterator[Connection]:
    """A connection of which the first address is dead."""
    with Connection([address(free_port()), address(mns.port)], transport_options=_OPTIONS) as one:
        yield one


class Collector:
    """A pytest plugin that collects kombu's classes, as a module would that derives from them."""

    def __init__(self, common: ModuleType) -> None:
        self.common = common

    def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> Any:
        """Let the module of this file have a test class for each of kombu's."""
        module = pytest.Module.from_parent(parent, path=module_path)
        for name in _CLASSES:
            setattr(module.obj, f"Test{name.removeprefix('Base')}", type(f"Test{name}", (getattr(self.common, name),), {}))
        return module


def main(checkout: Path, *arguments: str) -> int:
    """Run, and return pytest's exit status."""
    where = importlib.util.spec_from_file_location("kombu_integration_common", checkout / "t" / "integration" / "common.py")
    assert where is not None
    assert where.loader is not None
    common = importlib.util.module_from_spec(where)
    where.loader.exec_module(common)
    return int(pytest.main([__file__, "-p", "no:cacheprovider", "--noconftest", *arguments],
                           plugins=[Collector(common)]))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
