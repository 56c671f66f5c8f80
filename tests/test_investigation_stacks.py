"""Where a worker's threads are is seen from outside, whatever the worker does, without stopping it, in bounded time."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.investigation_records import ProcessStacks
from app.job import Service
from app.worker_entry import WorkerEntry
from routing.investigation import processes, server, stacks
from tests.busy import a_process, state_of, wait_for_state


def an_entry(pid: int, *, name: str = "model@server-1", service: Service = Service.MODEL, busy: int = 1) -> WorkerEntry:
    return WorkerEntry(name=name, server="server-1", services=(service,), pid=pid, host="", processors=("P2",), cpus=(0,),
                       slots=8, busy=busy, idle_ms=0, beat_ms=0, figures={})


def seen(pid: int) -> ProcessStacks:
    (found,) = stacks.stacks_of([an_entry(pid)])
    return found


@pytest.fixture
def busy() -> Iterator[int]:
    with a_process() as pid:
        yield pid


def test_a_busy_worker_is_caught_in_the_function_that_keeps_it_busy(busy: int) -> None:
    found = seen(busy)

    first = found.threads[0]
    assert (found.note, first.active, first.holds_gil, first.count) == ("", True, True, 1)
    assert first.names == ("MainThread",)
    assert any(frame.startswith("grind_the_prompt (<string>:") for frame in first.frames)


def test_threads_that_wait_at_the_same_place_are_told_together(busy: int) -> None:
    waiting = [each for each in seen(busy).threads if not each.active]

    assert [each.count for each in waiting] == [4]
    assert any(frame.startswith("wait_for_nothing") for frame in waiting[0].frames)


def test_looking_does_not_stop_a_worker(busy: int) -> None:
    """Nor does it trace it, which would stop it, too."""
    tracer = 0
    began_s = time.monotonic()
    for _ in range(5):
        seen(busy)
        tracer += int(Path(f"/proc/{busy}/status").read_text().partition("TracerPid:")[2].split()[0])

    assert (state_of(busy) in "RS", tracer) == (True, 0)
    assert time.monotonic() - began_s < 5


def test_a_worker_that_is_paused_is_seen_where_it_is_and_stays_paused(busy: int) -> None:
    os.kill(busy, signal.SIGSTOP)
    wait_for_state(busy, "T")

    found = seen(busy)

    frames = [frame for thread in found.threads for frame in thread.frames]
    assert any(frame.startswith("<module> (<string>:") for frame in frames)  # the innermost may be caught half made
    assert (found.note, state_of(busy)) == ("", "T")


def test_a_worker_that_is_gone_is_told_of_by_a_note() -> None:
    with a_process(busy=False) as pid:
        pass

    found = seen(pid)

    assert (found.threads, found.note != "") == ((), True)


def as_py_spy(folder: Path, lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this Python program stand for py-spy."""
    program = folder / "py-spy"
    program.write_text(f"#!{sys.executable}\n{lines}")
    program.chmod(0o755)
    monkeypatch.setattr(stacks, "program", lambda: program)


def test_where_looking_is_forbidden_the_note_says_how_to_allow_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real py-spy, as a user who may not look into the process of another."""
    as_py_spy(tmp_path, f"import os, sys\nif os.getuid() == 0:\n    os.setgroups([]); os.setuid(65534)\n"
                        f"os.execv({str(stacks.program())!r}, sys.argv)", monkeypatch)

    note = seen(1).note

    assert note == stacks.FORBIDDEN
    assert "CAP_SYS_PTRACE" in note
    assert "kernel.yama.ptrace_scope" in note


def test_a_py_spy_that_hangs_is_ended_and_all_workers_together_get_a_bounded_time(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    as_py_spy(tmp_path, f"import os, time\nopen({str(tmp_path)!r} + f'/{{os.getpid()}}.pid', 'w')\ntime.sleep(600)",
              monkeypatch)
    monkeypatch.setattr(stacks, "TIME_S", 1.0)
    began_s = time.monotonic()

    found = stacks.stacks_of([an_entry(1), an_entry(2), an_entry(3)])

    assert time.monotonic() - began_s < 4
    assert [each.threads for each in found] == [(), (), ()]
    assert found[0].note.startswith("py-spy did not end within")
    assert found[2].note == "there was no time left for it"
    left = [each for each in tmp_path.glob("*.pid") if Path(f"/proc/{each.stem}").exists()]
    assert left == []


def test_a_failure_of_the_moment_is_tried_again(busy: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stack that changed while it was read."""
    as_py_spy(tmp_path, f"import os, sys\nmark = {str(tmp_path / 'tried')!r}\n"
                        "if not os.path.exists(mark):\n    open(mark, 'w'); sys.exit('Error: Failed to copy frame')\n"
                        f"os.execv({str(stacks.program())!r}, sys.argv)", monkeypatch)

    assert seen(busy).threads[0].holds_gil


def test_a_py_spy_that_is_not_there_is_told_of_by_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stacks, "program", lambda: tmp_path / "nothing")

    assert "No such file" in seen(1).note


@pytest.mark.parametrize(("command_line", "name"), [
    ("python3 -m ops.server up server-1 --key s3cr3t", "python3 -m ops.server"),
    ("python3 -u -X faulthandler /opt/bin/celery -A workers worker", "python3 celery"),
    ("python3 -c print(s3cr3t) s3cr3t", "python3 -c"), ("python3", "python3"), ("python3 -", "python3"),
    ("redis-server *:6379", "redis-server"),
])
def test_of_a_command_line_only_the_program_and_its_module_or_script_are_told(command_line: str, name: str) -> None:
    assert processes.program(command_line.partition(" ")[0], command_line.split()) == name


def test_busy_workers_of_the_slow_services_are_looked_into_and_all_of_them_where_none_is_busy() -> None:
    model, chat = an_entry(1), an_entry(2, name="chat@server-1", service=Service.CHAT, busy=0)
    other = an_entry(3, name="auth@server-1", service=Service.AUTH)
    idle = an_entry(4, busy=0)

    assert server.to_look_into([model, chat, other]) == [model]
    assert server.to_look_into([idle, chat, other]) == [idle, chat]
