"""B3: jobs a second from end to end, HTTP in to result recorded."""

import json
import random
import time

from ops.bench.burst import burst
from ops.bench.errors import NotAsPromised
from ops.bench.rows.row import Ratio, Row, Series
from ops.bench.subjects import JobServer
from ops.waiting import wait_until

_PROMPT = "hello"
_TRIAL = 400  # jobs that show how fast the subject is, so that the measurement takes about as long for each
_LOOK_S = 0.05
_END_S = 120
_READ_BACK = 100


def measure(server: JobServer, seconds: float) -> dict[str, float]:
    """Have as many jobs done as take about so long, and read some of them back."""
    _, trial_s = have_done(server, _TRIAL)
    jobs = max(round(_TRIAL / trial_s * seconds), _TRIAL)
    answers, took_s = have_done(server, jobs)
    _read_back(server, random.sample(answers, min(_READ_BACK, len(answers))))
    return {"jobs/s": jobs / took_s}


def have_done(server: JobServer, count: int) -> tuple[list[bytes], float]:
    """Submit jobs and wait for the last result; return the answers and the seconds from the first byte sent."""
    call, goal, began = server.submit(_PROMPT), server.finished() + count, time.monotonic()
    answers = burst(call, server.address, count)
    wait_until(lambda: server.finished() >= goal, timeout_s=_END_S, every_s=_LOOK_S,
               what=f"{server.name} to have done {count} jobs")
    took_s = time.monotonic() - began
    if (more := server.finished() - goal) > 0:
        raise NotAsPromised(f"{server.name} recorded {more} results more than there were jobs")
    return answers, took_s


def _read_back(server: JobServer, answers: list[bytes]) -> None:
    for answer in answers:
        job_id = json.loads(answer)["id"]
        read = server.poll(job_id).once(server.address)
        if server.text(read) != _PROMPT:
            raise NotAsPromised(f"{server.name}'s job {job_id} should have succeeded with '{_PROMPT}', but reads: "
                                f"{json.dumps(read)[:300]}")


ROW = Row(
    name="B3", title="jobs/s end to end", measure=measure, subjects=("tandem", "plain", "dramatiq", "huey"),
    how="jobs without a stall, submitted over 64 connections as fast as they are accepted; from the first byte sent to the "
        f"last result recorded, seen in Redis to {1000 * _LOOK_S:.0f} ms; then {_READ_BACK} of them are read over HTTP and "
        "must have succeeded with the right text.",
    ratios=(
        Ratio(name="B3a", says="Tandem over the plain way", at_least=2.0,
              over=Series("tandem", "jobs/s"), under=Series("plain", "jobs/s")),
        Ratio(name="B3b", says="Tandem over Dramatiq", at_least=1.0,
              over=Series("tandem", "jobs/s"), under=Series("dramatiq", "jobs/s")),
        Ratio(name="B3c", says="Tandem over Huey",
              over=Series("tandem", "jobs/s"), under=Series("huey", "jobs/s")),
    ))
