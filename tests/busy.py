"""A process for tests that does what is told of it: one thread of it computes, in a function by name, the others wait."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.waiting import wait_until

_PROGRAM = """
import sys, threading
def wait_for_nothing():
    threading.Event().wait()
def grind_the_prompt():
    while True:
        sum(range(1000))
for number in range(4):
    threading.Thread(target=wait_for_nothing, name=f"pool-{number}", daemon=True).start()
print("ready", flush=True)
grind_the_prompt() if "--busy" in sys.argv else wait_for_nothing()
"""


@contextmanager
def a_process(*, busy: bool = True) -> Iterator[int]:
    """Run it; its pid."""
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, "--busy" if busy else "--idle", "--key=s3cr3t-key"],
                               stdout=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def state_of(pid: int) -> str:
    """The state of a process, as /proc has it: R, S, T, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for_state(pid: int, states: str) -> None:
    """Wait until it is in one of these states."""
    wait_until(lambda: state_of(pid) in states, timeout_s=5, what=f"process {pid} to be in one of {states}", every_s=0.01)
