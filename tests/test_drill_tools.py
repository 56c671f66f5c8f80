"""What the drill raises signals with, and how it counts: each by itself."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.errors import EngineTransient
from app.job import Job, Lane, Route, Service, State
from app.routing_records import Change
from app.routing_rules import Action, Rules, Threshold
from ops.drill import report
from ops.drill.__main__ import main
from ops.drill.books import Books, percentile
from ops.drill.bounds import exceeded
from ops.drill.causes import MemoryRoom, ModelServer, NoRoom, burning, filling, in_place_of
from ops.drill.kept import Kept, Told
from ops.drill.pace import QUICK, SHIPPED
from ops.drill.parts import OVERLOAD, SIGNALS
from ops.drill.scene import apart
from ops.drill.story import Step, Story
from ops.sandbox import is_gone
from ops.waiting import wait_until
from routing.memory import memory_percent
from tests.upstream import chat, engine_for, run_on

ROOM_BYTES = 64 * 2**20


def silent(_: str) -> None:
    """Listen to no step."""


def test_a_busy_loop_keeps_a_cpu_busy_and_is_gone_afterwards() -> None:
    cpu = min(os.sched_getaffinity(0))
    with burning([cpu]):
        loop = next(child for child in psutil.Process().children() if "while True: pass" in child.cmdline())
        assert loop.cpu_affinity() == [cpu]
        wait_until(lambda: loop.cpu_times().user > 0.2, timeout_s=30, what="the loop to burn")
    assert is_gone(loop.pid)


@contextmanager
def room_of(*pids: int) -> Iterator[MemoryRoom]:
    """A memory group; where none can be made, there is nothing to be tested."""
    try:
        with MemoryRoom.of(f"tandem-test-{os.getpid()}", pids, ROOM_BYTES) as room:
            yield room
    except NoRoom as exc:
        pytest.skip(str(exc))


def test_ballast_fills_a_room_for_those_in_it_and_for_no_others() -> None:
    tell = "from routing.memory import memory_percent; import sys; sys.stdin.readline(); print(memory_percent())"
    inside = subprocess.Popen([sys.executable, "-c", tell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with room_of(inside.pid) as room:
        with filling(round(0.8 * ROOM_BYTES), room):
            assert room.used_bytes() >= 0.8 * ROOM_BYTES
            told, _ = inside.communicate("\n", timeout=60)
            assert float(told) >= 80.0
            assert memory_percent() < float(told)
        wait_until(lambda: room.used_bytes() < 0.5 * ROOM_BYTES, timeout_s=30, what="the ballast to go")


def test_processes_leave_a_room_when_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        before = groups_of(process.pid)
        with room_of(process.pid):
            assert groups_of(process.pid) != before
        assert groups_of(process.pid) == before


def groups_of(pid: int) -> str:
    """The control groups of a process."""
    return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")


def test_the_model_server_answers_and_breaks_and_is_mended() -> None:
    with ModelServer.running() as server, engine_for(server.url, openai_retry_s=0.002,
                                                     openai_breaker_cooldown_s=0.001) as engine:
        assert engine.generate(chat(), run_on).text == "well"
        server.is_broken = True
        with pytest.raises(EngineTransient, match="fallen off the bus"):
            engine.generate(chat(), run_on)
        server.is_broken = False
        assert engine.generate(chat(), run_on).text == "well"


def test_a_process_is_replaced_by_itself_with_another_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, time; print(os.environ['DRILL'], flush=True); time.sleep(600)"]
    with subprocess.Popen(command, env={**os.environ, "DRILL": "before"}, stdout=subprocess.DEVNULL) as original:
        wait_until(lambda: b"time.sleep" in cmdline(original.pid), timeout_s=10, what="it to run")
        log = tmp_path / "log"
        with in_place_of(original.pid, ["kill", str(original.pid)], ["true"], log, DRILL="meanwhile") as pid:
            wait_until(lambda: log.exists() and log.read_text() == "meanwhile\n", timeout_s=10, what="the other one to run")
            assert pid != original.pid
        assert is_gone(pid)
        original.wait(timeout=10)


def cmdline(pid: int) -> bytes:
    """A process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_command_that_starts_it_again_must_not_fail(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as original:
        wait_until(lambda: b"input" in cmdline(original.pid), timeout_s=10, what="it to run")
        with pytest.raises(OSError, match="false failed"), in_place_of(
                original.pid, ["kill", str(original.pid)], ["false"], tmp_path / "log"):
            pass
        original.wait(timeout=10)


def test_each_server_gets_labels_of_its_own_on_a_cpu_of_its_own() -> None:
    cpus = max(len(os.sched_getaffinity(0)), 2)
    pins = list(apart().values())

    numbers = [[int(label.strip('",P')) for label in text.split() if "P" in label] for text in pins]
    assert len({*numbers[0], *numbers[1]}) == 10
    assert [{number % cpus for number in some} for some in numbers] == [{1 % cpus}, {2 % cpus}]


def job(number: int, *, created_s: float, waited_s: float, route: Route = Route.LOCAL, recorded: int = 1,
        state: State = State.SUCCEEDED) -> Job:
    """A job that has ended."""
    return Job(id=str(number), service=Service.MODEL, task="model.generate", tenant="t", state=state, lane=Lane.STANDARD,
               route=route, attempt=1, created_ms=round(created_s * 1000), started_ms=round((created_s + waited_s) * 1000),
               recorded=recorded, usage=b'{"prompt_tokens": 600, "completion_tokens": 400}')


def test_books_tell_when_waiting_was_under_the_target_for_good() -> None:
    waits_s = [1.0] * 10 + [7.0] * 10 + [4.0] * 40
    waits_s[50] = 9.0  # one of twenty in its ten seconds
    books = Books([job(number, created_s=100.0 + number / 2 - wait, waited_s=wait)
                   for number, wait in enumerate(waits_s)], {}, 100.0)

    assert books.waits_s() == waits_s
    assert books.recovered_s(5.0) == 10.0
    assert books.recovered_s(3.0) == 30.0
    assert books.recovered_s(8.0) is None


def test_books_tell_the_peak_share_and_the_cost_of_what_ran_in_the_cloud() -> None:
    where = [Route.LOCAL] * 20 + [Route.CLOUD, Route.LOCAL] * 10
    books = Books([job(number, created_s=100.0 + number / 2, waited_s=0.0, route=route)
                   for number, route in enumerate(where)], {}, 100.0)

    assert (books.in_cloud, books.peak_share()) == (10, 0.5)
    assert books.cost(Rules(cloud_price_per_job=0.5, cloud_price_per_1000_tokens=2.0)) == pytest.approx(10 * 2.5)


def moves(*words: str) -> list[dict[str, object]]:
    """Moves, one a second."""
    return [{"at_ms": 1000 * second, "move": word, "why": {}} for second, word in enumerate(words)]


@pytest.mark.parametrize(("words", "twice"), [
    (("sent", "begun"), 0), (("sent", "recalled", "sent", "begun"), 0), (("sent", "begun", "lapsed", "sent"), 0),
    (("sent", "sent", "begun"), 1), (("sent", "begun", "sent"), 1)])
def test_books_find_jobs_that_were_sent_while_they_were_out(words: tuple[str, ...], twice: int) -> None:
    assert Books([], {"a": moves(*words), "b": moves("sent", "begun")}, 0.0).sent_twice() == twice


def test_books_count_lost_and_doubled_jobs() -> None:
    jobs = [job(1, created_s=0, waited_s=0), job(2, created_s=0, waited_s=0, recorded=2),
            job(3, created_s=0, waited_s=0, state=State.FAILED)]

    books = Books(jobs, {}, 0.0)
    assert (books.lost, books.doubled) == (1, 1)


def test_books_count_what_was_sent_in_any_minute() -> None:
    every_20_s = [{"at_ms": 20_000 * number, "move": "sent", "why": {}} for number in range(9)]

    assert Books([], {str(number): [move] for number, move in enumerate(every_20_s)}, 0.0).most_in_a_minute() == 3
    assert Books([], {}, 0.0).most_in_a_minute() == 0


@pytest.mark.parametrize(("what", "times", "is_over"), [
    ("level", 6, False), ("level", 7, True), ("share", 5, False), ("share", 6, True), ("send", 100, False)])
def test_a_history_is_held_to_the_bounds_of_the_policy(what: str, times: int, is_over: bool) -> None:
    threshold = Threshold(normal=70, alert=80, for_s=5, hold_s=15, action=Action.FAILOVER)
    changes = [Change(at_s=float(at_s), what=what, scope="cpu_percent@server-1", before="", after="", why="")
               for at_s in range(times)]

    over = exceeded(changes, Rules(thresholds={"cpu_percent": threshold}, step_s=5.0), 20.0)
    assert [f"changed {times} times in 20 s" in each for each in over] == [True] * is_over


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.0), (0.95, 3.0), (1.0, 3.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([3.0, 1.0, 2.0], share) == value


def test_no_values_have_a_percentile_of_0() -> None:
    assert percentile([], 0.5) == 0.0


def test_a_step_that_does_not_come_is_named() -> None:
    with pytest.raises(TimeoutError, match="cpu_percent: alert opened"):
        Story("cpu_percent", silent).wait(Step.OPENED, lambda: None, timeout_s=0.01)


def test_a_story_tells_its_steps_figures_and_faults_as_they_come() -> None:
    told: list[str] = []
    story = Story("cpu_percent", told.append)
    story.mark(Step.OVER)
    story.figure("value", 99.94)
    story.check(True, "all is well")
    story.check(False, "it did not come back")

    assert story.faults == ["it did not come back"]
    assert story.figures == {"value": "99.9"}
    assert [word in line for word, line in zip(("value over alert", "value: 99.9", "FAULT it did"), told, strict=True)
            ] == [True] * 3


def test_the_report_shows_each_step_in_its_column_and_what_never_came() -> None:
    signal = Told(name="cpu_percent", run="today", steps={Step.OVER: 1.04, Step.OPENED: 12.0}, figures={},
                  faults=["the alert stayed"])
    other = Told(name="leader killed", run="today", steps={}, figures={"jobs": "7"}, faults=[])

    text = report.written([signal, other], SHIPPED, rules=Rules())
    assert "| cpu_percent | 1.0 | 12.0 | **never** | **never** | **never** | **never** |" in text
    assert "**Fault: the alert stayed**" in text
    assert "### leader killed\n\n- told today\n- jobs: **7**" in text


def test_a_row_that_is_told_again_replaces_what_was_kept_of_it_alone(tmp_path: Path) -> None:
    kept = Kept(["one", "two"], tmp_path / "results.json")
    first = [Told.of(Story(name, silent), "then") for name in ("two", "one", "of old")]
    again = Story("one", silent)
    again.figure("jobs", 7)

    assert [each.name for each in kept.add(first)] == ["one", "two"]
    assert [(each.name, each.run, each.figures) for each in kept.add([Told.of(again, "now")])] == [
        ("one", "now", {"jobs": "7"}), ("two", "then", {})]
    assert [each.name for each in kept.read()] == ["one", "two"]


def test_a_row_that_there_is_not_is_refused_before_anything_starts(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["ops.drill", "cpu_percent", "disk_percent"])

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "there is no row disk_percent; there are: error_percent, concurrent_users" in capsys.readouterr().err


def test_rows_have_different_names_and_those_left_out_exist() -> None:
    names = SIGNALS.names + OVERLOAD.names

    assert len(set(names)) == len(names)
    assert set(SHIPPED.without + QUICK.without) <= set(names)
