"""The command line of the simulator: what it prints and writes, and what it says of bad options."""

from pathlib import Path

import pytest

from ops.simulate.__main__ import main
from tests.simulated import TRACES

BUSY = "second,for_s,jobs,users\n0,30,10,100\n30,90,25,100\n120,60,1,100\n"


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """A short overload, as a file."""
    path = tmp_path / "busy.csv"
    path.write_text(BUSY, encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def _the_checkouts_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_TOPOLOGY", raising=False)


def test_a_run_is_told_as_a_table_a_chart_and_its_transitions(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([trace]) == 0

    said = capsys.readouterr().out
    for part in ("jobs accepted                2,610", "wait p50 / p95 / max, s", "waiting at home |", "Transitions:"):
        assert part in said


def test_other_rules_are_compared_with_those_of_the_file(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([trace, "--compare", "--set", "cpu_percent.alert=85", "--routing.cloud_jobs_per_minute=0"]) == 0

    cost = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("cost"))
    assert float(cost[1]) > 0.0
    assert float(cost[2]) == 0.0


def test_changed_rules_alone_are_what_runs(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([trace, "--routing.cloud_jobs_per_minute=0"]) == 0

    said = capsys.readouterr().out
    assert "with --set" in said
    assert "the topology's rules" not in said


def test_a_picture_a_report_and_every_second_are_written(trace: str, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("run.png", "run.txt", "run.csv")}
    assert main([trace, "--png", str(files["run.png"]), "--out", str(files["run.txt"]), "--csv", str(files["run.csv"]),
                 "--compare", "--routing.target_wait_s=1"]) == 0

    assert files["run.png"].read_bytes().startswith(b"\x89PNG")
    assert "jobs accepted" in files["run.txt"].read_text(encoding="utf-8")
    rows = files["run.csv"].read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("second,arrivals,accepted,ended,")
    assert rows[0].endswith(",cpu_server-1,cpu_server-2")
    assert len(rows) > 180


def test_a_flash_crowd_is_drawn_on_a_scale_that_shows_the_rest(tmp_path: Path) -> None:
    assert main([str(TRACES / "flash-crowd.csv"), "--png", str(tmp_path / "crowd.png")]) == 0

    assert (tmp_path / "crowd.png").stat().st_size > 20_000


def test_the_world_is_what_the_options_say(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([trace, "--service-s", "0.5", "--cloud-workers", "0"]) == 0

    assert "run in the cloud             0 (0.0 %)" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "says"), [
    (["--set", "cpu.alert=85"], "there is no threshold 'cpu'"),
    (["--set", "cpu_percent.alert=high"], "must be a number"),
    (["--set", "cpu_percent.alert=60"], "normal must be below alert"),
    (["--set", "cpu_percent"], "must be as cpu_percent.alert=85"),
    (["--routing.nothing=1"], "nothing is not a rule"),
    (["--compare"], "--compare needs something to compare with"),
    (["--service-s", "-1"], "--service-s must be a number, 0 or above; got -1.0"),
    (["--spread", "nan"], "--spread must be a number, 0 or above; got nan"),
    (["--topology", "/nowhere/topology.toml"], "cannot be read"),
    (["--png", "/nowhere/run.png"], "cannot write /nowhere/run.png"),
])
def test_a_bad_option_is_told_without_a_traceback(
        trace: str, options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([trace, *options]) == 1

    assert says in capsys.readouterr().err


def test_a_bad_trace_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.csv").write_text("second,jobs\n0,1\n1,lots\n", encoding="utf-8")
    assert main([str(tmp_path / "bad.csv")]) == 1

    assert "line 3: jobs must be a number" in capsys.readouterr().err


def test_the_help_documents_the_trace_and_every_number_of_the_world(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    said = capsys.readouterr().out
    assert caught.value.code == 0
    for part in ("for_s        how many seconds it lasts", "fail:SERVER", "--service-s", "--cloud-worker-start-s"):
        assert part in said
