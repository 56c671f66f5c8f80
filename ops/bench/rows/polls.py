"""B2: polls a second, of a job that has ended."""

from ops.bench import wrk
from ops.bench.rows.row import Ratio, Row, Series
from ops.bench.subjects import JobServer
from ops.waiting import wait_until

_ANSWER_S = 30


def measure(server: JobServer, seconds: float) -> dict[str, float]:
    """Have a job done, then read it again and again."""
    figures = {}
    if constant := server.constant():
        figures["constant/s"] = wrk.load(constant, server.address, seconds).per_s
    poll = server.poll(server.submit("hello").once(server.address)["id"])
    wait_until(lambda: server.text(poll.once(server.address)), timeout_s=_ANSWER_S, what=f"{server.name} to do a job")
    seen = wrk.load(poll, server.address, seconds)
    return {**figures, "polls/s": seen.per_s, "poll mean ms": seen.mean_ms, "poll p99 ms": seen.p99_ms}


ROW = Row(
    name="B2", title="polls/s", measure=measure, subjects=("tandem", "plain"),
    how="wrk, one thread, 64 connections, `GET` of one job that has ended; \"constant\" as in B1.",
    ratios=(
        Ratio(name="B2a", says="Tandem over `AsyncResult` in the plain way", at_least=1.5,
              over=Series("tandem", "polls/s"), under=Series("plain", "polls/s")),
        Ratio(name="B2b", says="Tandem over its own constant answer", at_least=0.6,
              over=Series("tandem", "polls/s"), under=Series("tandem", "constant/s")),
    ))
