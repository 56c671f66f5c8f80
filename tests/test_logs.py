"""Log lines are one JSON object each, and a line's counter moves with it."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.concurrency.base import BasePool

from app import logs

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Put this process's logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("celery.worker.strategy", "celery.app.trace", "celery.pool")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)


def configure(level: str) -> None:
    """Configure logging as a process of Tandem does, after taking pytest's handlers away: they would be closed. To be
    called in the test itself, where standard error is already the one that is captured."""
    logging.getLogger().handlers.clear()
    logs.configure(level)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Return the lines written to standard error since the last call, each read as JSON."""
    def written() -> list[dict[str, Any]]:
        out, err = capsys.readouterr()
        assert out == ""
        return [json.loads(line) for line in err.splitlines()]

    return written


def test_an_event_is_one_json_line_with_its_fields(lines: Lines) -> None:
    configure("INFO")
    logs.event("job_succeeded", job="0198", attempt=2)

    (line,) = lines()
    assert line.pop("at").startswith("20")
    assert line == {"level": "INFO", "logger": "tandem", "event": "job_succeeded", "job": "0198", "attempt": 2}


def test_whatever_the_fields_hold_the_line_stays_one_line_of_json(lines: Lines) -> None:
    class Thing:
        def __str__(self) -> str:
            return "a thing"

    configure("INFO")
    logs.event("odd", text='two\nlines, "quotes" \N{SNOWMAN}', thing=Thing(), error=ValueError("why"), nested={"a": [None]})

    (line,) = lines()
    assert (line["text"], line["thing"], line["error"]) == ('two\nlines, "quotes" \N{SNOWMAN}', "a thing", "why")
    assert line["nested"] == {"a": [None]}


def test_the_counter_moves_with_the_line(lines: Lines) -> None:
    configure("INFO")
    before = logs.counters["moved"]

    logs.event("moved")
    logs.event("moved", level=logging.WARNING)

    assert logs.counters["moved"] - before == len(lines()) == 2


def test_an_event_below_the_level_writes_nothing_and_is_counted(lines: Lines) -> None:
    configure("INFO")
    before = logs.counters["chatter"]

    logs.event("chatter", level=logging.DEBUG)

    assert lines() == []
    assert logs.counters["chatter"] - before == 1


@pytest.mark.parametrize(("level", "written"), [
    ("DEBUG", ["DEBUG", "INFO", "WARNING", "ERROR"]), ("INFO", ["INFO", "WARNING", "ERROR"]),
    ("WARNING", ["WARNING", "ERROR"]), ("ERROR", ["ERROR"])])
def test_the_level_of_the_settings_says_what_is_written(lines: Lines, level: str, written: list[str]) -> None:
    configure(level)
    for each in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logs.event("something", level=each)

    assert [line["level"] for line in lines()] == written


def test_an_exception_comes_with_its_traceback_on_the_same_line(lines: Lines) -> None:
    configure("INFO")
    try:
        _ = {}["not there"]
    except KeyError:
        logs.event("job_crashed", exc_info=True, job="0198")

    (line,) = lines()
    assert line["job"] == "0198"
    assert line["traceback"].startswith("Traceback (most recent call last):")
    assert line["traceback"].endswith("KeyError: 'not there'")


def test_lines_of_other_libraries_are_json_too_but_not_celerys_account_of_jobs(lines: Lines) -> None:
    configure("INFO")
    logging.getLogger("some.library").info("%d of %s", 3, "them")
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).info("Task received")
        logging.getLogger(name).warning("something is wrong")

    assert [(line["logger"], line["event"]) for line in lines()] == [
        ("some.library", "3 of them"), ("celery.worker.strategy", "something is wrong"),
        ("celery.app.trace", "something is wrong")]


def test_events_of_many_threads_are_all_written_whole_and_counted(lines: Lines) -> None:
    configure("INFO")
    before = logs.counters["busy"]

    def work(number: int) -> None:
        for step in range(50):
            logs.event("busy", number=number, step=step, filler="x" * 200)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {(line["number"], line["step"]) for line in lines()} == {(n, s) for n in range(8) for s in range(50)}
    assert logs.counters["busy"] - before == 400


def test_what_a_message_holds_is_not_told_by_celerys_pool_even_in_detail(lines: Lines) -> None:
    configure("DEBUG")
    pool = BasePool(limit=1)
    pool.start()
    pool.apply_async(print, args=("a prompt",))

    assert "a prompt" not in json.dumps(lines())
