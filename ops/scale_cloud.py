"""Brings the number of cloud workers that run here to N: what the routing task runs unless `scale_command` names another.

    python -m ops.scale_cloud 2

Under the supervisord called "cloud" that `make up` starts where the topology has a cloud and no MNS is named. Saying it
twice changes nothing. One worker stays, also where none is asked for: so many are there after `make up`. A worker that goes
has its time to end its jobs, and gives back to MNS what it does not end, so this does not wait for it; while it goes,
another takes its place if more are wanted again.
"""

import argparse
import sys
import xmlrpc.client
from collections.abc import Sequence
from typing import Any

from supervisor.states import RUNNING_STATES, ProcessStates
from supervisor.xmlrpc import Faults, SupervisorTransport

from app import topology
from app.errors import TandemError
from app.settings import Settings
from ops import local_cloud
from ops.server import socket_path

_CHANGED = {Faults.ALREADY_STARTED, Faults.NOT_RUNNING}  # another has done it at the same time


class NotScaled(TandemError):
    """There are as many cloud workers as before."""

    code = "not-scaled"
    title = "Not scaled"


def scale(settings: Settings, number: int) -> tuple[list[str], list[str]]:
    """Have so many local cloud workers, and one at least; return those that were started, and those that were asked to
    stop. Raises `NotScaled` where there is no local cloud, or it cannot have so many."""
    if not 0 <= number <= local_cloud.MOST:
        raise NotScaled(f"there can be 1 to {local_cloud.MOST} cloud workers on this machine; {number} were asked for")
    number = max(number, 1)
    supervisor = _supervisor(settings)
    names = [local_cloud.program_name(each) for each in range(1, local_cloud.MOST + 1)]
    try:
        states = {each["name"]: each["state"] for each in supervisor.getAllProcessInfo()}
        running = [name for name in names if states.get(name) in RUNNING_STATES]
        free = [name for name in names if states.get(name) not in (*RUNNING_STATES, ProcessStates.STOPPING)]
        started, stopped = free[:max(number - len(running), 0)], running[number:]
        for name in started:
            _ask(supervisor.startProcess, name)
        for name in stopped:
            _ask(supervisor.stopProcess, name)
    except (OSError, xmlrpc.client.Error) as exc:
        raise NotScaled(f"there is no local cloud to scale ({exc}): `make up` starts one where the topology has a [cloud] "
                        "table and no MNS is named; for another, set scale_command") from exc
    return started, stopped


def _supervisor(settings: Settings) -> Any:
    url = f"unix://{socket_path(local_cloud.run_folder(settings))}"
    return xmlrpc.client.ServerProxy("http://local", transport=SupervisorTransport(serverurl=url)).supervisor


def _ask(call: Any, name: str) -> None:
    """Have a program started or stopped, without waiting for it."""
    try:
        call(f"{local_cloud.GROUP}:{name}", False)
    except xmlrpc.client.Fault as exc:
        if exc.faultCode not in _CHANGED:
            raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.scale_cloud",
                                     description="Bring the number of cloud workers on this machine to N.")
    parser.add_argument("number", type=int, metavar="N")
    number = parser.parse_args(arguments).number
    try:
        settings, _ = topology.load()
        started, stopped = scale(settings, number)
    except TandemError as exc:
        print(exc, file=sys.stderr)
        return 1
    print(f"cloud workers: {number or '1 (the last one here stays)'}"
          + (f"; started {', '.join(started)}" if started else "")
          + (f"; stopping {', '.join(stopped)}" if stopped else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
