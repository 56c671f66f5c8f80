"""A server's processors and memory, as the kernel tells: a burner shows where it burns, and groups' limits count."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.topology import load
from ops.waiting import wait_until
from routing.load import LOAD_S, ProcessorLoad, Ticks, processors_of, read_ticks, usable_cpus
from routing.memory import memory_percent

STAT = """cpu  300 0 200 1000 100 0 0 0 0 0
cpu0 200 10 90 600 50 20 10 30 5 0
cpu3 100 0 100 400 50
intr 123 0 9
"""


# -- processors


def test_ticks_are_read_by_the_numbers_of_the_cpus() -> None:
    ticks = read_ticks(STAT)

    assert sorted(ticks) == [0, 3]
    assert ticks[3] == Ticks(busy=200, total=650)
    assert ticks[0] == Ticks(busy=360, total=1010)  # what the hypervisor took is not free; a guest's time is in user's


def test_a_share_is_of_the_last_seconds_and_not_of_all_time() -> None:
    load_of = ProcessorLoad()
    load_of.note(0.0, {0: Ticks(0, 0)})
    load_of.note(10.0, {0: Ticks(1000, 1000)})
    assert load_of.percent([0]) == 100.0

    load_of.note(10.0 + LOAD_S / 2, {0: Ticks(1000, 1250)})
    load_of.note(10.0 + LOAD_S, {0: Ticks(1000, 1500)})
    assert load_of.percent([0]) == 0.0


def test_cpus_together_are_as_busy_as_their_mean() -> None:
    load_of = ProcessorLoad()
    load_of.note(0.0, {0: Ticks(0, 0), 1: Ticks(0, 0)})
    load_of.note(1.0, {0: Ticks(100, 100), 1: Ticks(20, 100)})

    assert load_of.percent([0]) == 100.0
    assert load_of.percent([1]) == 20.0
    assert load_of.percent([0, 1]) == 60.0


def test_nothing_is_said_of_a_cpu_before_it_was_seen_twice() -> None:
    load_of = ProcessorLoad()
    assert load_of.percent([0]) is None
    load_of.note(0.0, {0: Ticks(5, 10)})
    assert load_of.percent([0]) is None
    load_of.note(1.0, {0: Ticks(6, 20)})
    assert load_of.percent([0]) == 10.0
    assert load_of.percent([7]) is None


def test_every_label_of_a_server_has_the_cpus_behind_it() -> None:
    server = load({})[1].server("server-2")

    assert processors_of(server, [0, 1]) == {"P6": (1,), "P7": (0,), "P8": (1,), "P9": (0,), "P10": (1,)}
    assert processors_of(server, list(range(16)))["P10"] == (9,)


def test_labels_are_mapped_onto_more_than_the_cpu_that_this_process_is_pinned_to() -> None:
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(mine)})
        assert usable_cpus() == sorted(os.sched_getaffinity(os.getppid()) | {max(mine)})
    finally:
        os.sched_setaffinity(0, mine)


@pytest.fixture
def burner() -> Iterator[int]:
    """A process that keeps one CPU busy; gives the CPU's number."""
    cpu = max(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as one:
        try:
            yield cpu
        finally:
            one.kill()


def test_a_burner_shows_in_the_label_of_its_cpu(burner: int) -> None:
    processors = processors_of(load({})[1].server("server-1"), usable_cpus())
    label = next(label for label, cpus in processors.items() if burner in cpus)
    load_of = ProcessorLoad()

    def busy() -> bool:
        load_of.note(time.monotonic(), read_ticks(Path("/proc/stat").read_text()))
        return (load_of.percent(processors[label]) or 0.0) > 90

    wait_until(busy, timeout_s=4 * LOAD_S, what=f"{label} to be busy", every_s=0.5)


# -- memory


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def proc(root: Path, cgroup: str, mounts: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/mountinfo").write_text(mounts)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> float:
    """A machine whose memory is a fifth full."""
    memory = psutil.virtual_memory()._replace(percent=20.0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return 20.0


V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"


def test_a_limit_of_a_group_counts_without_pages_that_are_free_for_the_asking(tmp_path: Path, machine: float) -> None:
    proc(tmp_path, "0::/tandem/server\n", V2_MOUNT)
    group(tmp_path / "sys/fs/cgroup/tandem/server", memory__max="1000", memory__current="900",
          memory__stat="anon 100\ninactive_file 300\nactive_file 9")

    assert memory_percent(tmp_path) == 60.0


def test_a_tighter_limit_of_an_outer_group_counts(tmp_path: Path, machine: float) -> None:
    proc(tmp_path, "0::/tandem/server\n", V2_MOUNT)
    group(tmp_path / "sys/fs/cgroup/tandem/server", memory__max="max", memory__current="900",
          memory__stat="inactive_file 0")
    group(tmp_path / "sys/fs/cgroup/tandem", memory__max="2000", memory__current="1800", memory__stat="inactive_file 0")

    assert memory_percent(tmp_path) == 90.0


def test_without_a_limit_the_machine_counts(tmp_path: Path, machine: float) -> None:
    proc(tmp_path, "0::/\n", V2_MOUNT)
    group(tmp_path / "sys/fs/cgroup", memory__max="max", memory__current="900", memory__stat="inactive_file 0")

    assert memory_percent(tmp_path) == machine


def test_a_fuller_machine_counts_more_than_a_roomy_limit(tmp_path: Path, machine: float) -> None:
    proc(tmp_path, "0::/\n", V2_MOUNT)
    group(tmp_path / "sys/fs/cgroup", memory__max="1000", memory__current="100", memory__stat="inactive_file 0")

    assert memory_percent(tmp_path) == machine


@pytest.mark.parametrize(("limit", "expected"), [("1000", 70.0), ("9223372036854771712", 20.0)])
def test_version_1_counts_too_and_its_huge_number_is_no_limit(
        tmp_path: Path, machine: float, limit: str, expected: float) -> None:
    proc(tmp_path, "9:name=systemd:/\n4:memory:/tandem\n0::/\n", V1_MOUNT)
    group(tmp_path / "sys/fs/cgroup/memory/tandem", memory__limit_in_bytes=limit, memory__usage_in_bytes="800",
          memory__stat="inactive_file 1\ntotal_inactive_file 100")

    assert memory_percent(tmp_path) == expected


def test_in_a_container_that_sees_its_own_group_only_that_is_the_mounted_one(tmp_path: Path, machine: float) -> None:
    proc(tmp_path, "0::/docker/abc\n", V2_MOUNT.replace("0:28 / ", "0:28 /docker/abc "))
    group(tmp_path / "sys/fs/cgroup", memory__max="1000", memory__current="500", memory__stat="inactive_file 0")

    assert memory_percent(tmp_path) == 50.0


def test_where_nothing_is_told_of_groups_the_machine_counts(tmp_path: Path, machine: float) -> None:
    assert memory_percent(tmp_path) == machine


@pytest.fixture
def limited_group() -> Iterator[Path]:
    """A real memory group of version 1 or 2 with a limit of 256 MiB, below this process's own."""
    found = next((parent for parent in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
                  if os.access(parent / "cgroup.procs", os.W_OK)), None)
    folder = found / f"tandem-test-{os.getpid()}" if found else None
    limit = "memory.limit_in_bytes" if found and found.name == "memory" else "memory.max"
    try:
        assert folder is not None
        folder.mkdir()
        (folder / limit).write_text(str(256 << 20))
    except (AssertionError, OSError):
        pytest.skip("no memory group can be made here")
    try:
        yield folder
    finally:
        folder.rmdir()


def test_memory_that_is_taken_in_a_limited_group_shows(limited_group: Path) -> None:
    code = (f"open({str(limited_group / 'cgroup.procs')!r}, 'w').write('0')\n"
            "from routing.memory import memory_percent\nbefore = memory_percent()\nballast = bytearray(180 << 20)\n"
            "print(before, memory_percent())")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert told.returncode == 0, told.stderr
    before, after = map(float, told.stdout.split())
    assert before < 50
    assert 70 <= after <= 100
