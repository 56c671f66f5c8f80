"""What the benchmarks count and say; the measuring itself is `make bench`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.topology import Address
from ops.bench import report
from ops.bench.burst import burst
from ops.bench.call import Call
from ops.bench.errors import NotAsPromised
from ops.bench.figures import Figures
from ops.bench.rows import Ratio, Row, Series

CALL = Call(method="POST", path="/jobs", expects=202, body='{"a": 1}')
ROW = Row(name="B9", title="things/s", how="by counting", subjects=("tandem", "plain"), measure=lambda *_: {}, ratios=(
    Ratio(name="B9a", says="Tandem over plain", at_least=3.0, over=Series("tandem", "x/s"), under=Series("plain", "x/s")),
    Ratio(name="B9b", says="at most", at_most=1.2, over=Series("tandem", "x/s"), under=Series("plain", "x/s")),
    Ratio(name="B9c", says="no aim", over=Series("tandem", "x/s"), under=Series("plain", "x/s"))))


@contextmanager
def a_server(status_after: dict[int, int]) -> Iterator[tuple[Address, list[bytes]]]:
    """Answer 202 and keep the bodies; from so many requests on answer another status."""
    seen: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            seen.append(self.rfile.read(int(self.headers["Content-Length"])))
            status = next((code for after, code in status_after.items() if len(seen) >= after), 202)
            body = b"{}" * 500
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # as many as connect at once

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Address("127.0.0.1", server.server_address[1]), seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
def test_a_burst_makes_exactly_so_many_calls_and_keeps_each_answer(count: int) -> None:
    with a_server({}) as (address, seen):
        answers = burst(CALL, address, count)

    assert seen == [b'{"a": 1}'] * count
    assert answers == [b"{}" * 500] * count


def test_a_burst_that_gets_a_refusal_fails_instead_of_counting_it() -> None:
    with a_server({10: 503}) as (address, _), pytest.raises(NotAsPromised, match="503"):
        burst(CALL, address, 100)


def measured(tandem: list[float], plain: list[float]) -> Figures:
    figures = Figures()
    for ours, theirs in zip(tandem, plain, strict=True):
        figures.add(ROW, "tandem", {"x/s": ours})
        figures.add(ROW, "plain", {"x/s": theirs})
    return figures


def test_a_ratio_is_made_round_by_round_so_a_slow_round_cancels_out() -> None:
    spread = measured([400, 40, 330], [100, 10, 110]).ratio(ROW, ROW.ratios[0])

    assert (spread.median, spread.lowest, spread.highest) == (4.0, 3.0, 4.0)


@pytest.mark.parametrize(("tandem", "lines"), [
    ([400.0], ["B9a | things/s: Tandem over plain | >= 3x | **4.00x** | 4.00x to 4.00x | yes",
               "**4.00x** | 4.00x to 4.00x | **no**, 233.3% short", "reported"]),
    ([120.0], ["**1.20x** | 1.20x to 1.20x | **no**, 60.0% short", "<= 1.2x | **1.20x** | 1.20x to 1.20x | yes"])])
def test_the_report_says_of_each_aim_whether_it_was_met_and_by_how_much_not(tandem: list[float], lines: list[str]) -> None:
    text = report.text([ROW], measured(tandem, [100.0]), [("machine", "two cores")], "")

    for line in lines:
        assert line in text
    assert "- machine: two cores" in text
    assert "B9, things/s" in text
