"""B1: submits a second, while nothing is taken off the queue."""

from ops.bench import wrk
from ops.bench.errors import NotAsPromised
from ops.bench.rows.row import Ratio, Row, Series
from ops.bench.subjects import JobServer

STALL_S = 600  # longer than any measurement: the first jobs hold every worker's slots, the others wait behind them


def measure(server: JobServer, seconds: float) -> dict[str, float]:
    """Submit jobs that do not end."""
    figures = {}
    if constant := server.constant():
        figures["constant/s"] = wrk.load(constant, server.address, seconds).per_s
    before = server.finished()
    seen = wrk.load(server.submit("hello", stall_s=STALL_S), server.address, seconds)
    if (ended := server.finished() - before) > 0:
        raise NotAsPromised(f"{server.name} did {ended} jobs while only submits were to be measured")
    return {**figures, "submits/s": seen.per_s, "submit mean ms": seen.mean_ms, "submit p99 ms": seen.p99_ms}


ROW = Row(
    name="B1", title="submits/s", measure=measure, subjects=("tandem", "plain"),
    how="wrk, one thread, 64 connections, `POST` of a job; the workers' slots are held by stalled jobs, so that nothing is "
        "done meanwhile; \"constant\" is `GET /healthz` on the same gateways.",
    ratios=(
        Ratio(name="B1a", says="Tandem over the plain way", at_least=3.0,
              over=Series("tandem", "submits/s"), under=Series("plain", "submits/s")),
        Ratio(name="B1b", says="Tandem over its own constant answer", at_least=0.6,
              over=Series("tandem", "submits/s"), under=Series("tandem", "constant/s")),
    ))
