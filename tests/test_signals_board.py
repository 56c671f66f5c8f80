"""What is measured lies in Redis for a few seconds; callers are counted once, wherever they are seen."""

import pytest
import redis

from app.ledger import Ledger
from app.signal_board import SignalBoard
from app.signals import BELIEVED_S, WINDOW_S, GatewayReport, Histogram, ServerSignals
from ops.waiting import wait_until
from tests.model_ledger import a_job


@pytest.fixture
def board(client: redis.Redis) -> SignalBoard:
    return SignalBoard(client)


def report(pid: int, at_ms: int, **changes: object) -> GatewayReport:
    fields: dict[str, object] = {"server": "server-1", "pid": pid, "at_ms": at_ms, "calls": Histogram(),
                                 "answers": Histogram()}
    return GatewayReport(**(fields | changes))  # type: ignore[arg-type]


def test_a_servers_gateways_are_those_that_report(board: SignalBoard) -> None:
    at_ms = board.now_ms()
    mine = [report(1, at_ms, requests=5), report(2, at_ms)]
    for one in [*mine, report(1, at_ms, server="server-2")]:
        board.put_gateway(one)

    assert sorted(board.gateways("server-1"), key=lambda one: one.pid) == mine
    assert len(board.gateways("server-2")) == 1
    assert board.gateways("server-3") == []


def test_a_gateway_that_falls_silent_disappears(board: SignalBoard, client: redis.Redis) -> None:
    board.put_gateway(report(1, board.now_ms()))
    assert 0 < client.pttl("gateway:server-1:1") <= BELIEVED_S * 1000

    client.pexpire("gateway:server-1:1", 1)
    wait_until(lambda: not board.gateways("server-1"), timeout_s=5, what="the report to expire")
    board.put_gateway(report(2, board.now_ms() + round(BELIEVED_S * 1000)))
    assert client.zrange("gateways:server-1", 0, -1) == [b"2"], "its name goes too"


def test_a_server_that_is_not_heard_of_is_not_known(board: SignalBoard, client: redis.Redis) -> None:
    signals = ServerSignals(server="server-1", at_ms=1, cpu_percent=12.5, processors={"P1": 3.0},
                            workers=("queue@server-1",))
    board.put_server(signals)
    assert board.servers(["server-1", "server-2"]) == {"server-1": signals, "server-2": None}
    assert 0 < client.pttl("signals:server-1") <= BELIEVED_S * 1000

    client.pexpire("signals:server-1", 1)
    wait_until(lambda: board.servers(["server-1"]) == {"server-1": None}, timeout_s=5, what="the signals to expire")


@pytest.mark.parametrize("text", ["{", '{"server": 1}', "[]"])
def test_what_cannot_be_read_counts_as_not_there(board: SignalBoard, client: redis.Redis, text: str) -> None:
    client.set("signals:server-1", text)

    assert board.servers(["server-1"]) == {"server-1": None}


def test_a_report_with_other_buckets_counts_as_not_there(board: SignalBoard) -> None:
    mine = report(1, board.now_ms())
    board.put_gateway(mine)
    board.put_gateway(report(2, mine.at_ms, calls=Histogram(counts=(1, 2))))
    board.put_gateway(report(3, mine.at_ms, answers=Histogram(counts=())))

    assert board.gateways("server-1") == [mine]


def test_users_are_counted_once_wherever_they_are_seen(board: SignalBoard) -> None:
    board.put_gateway(report(1, board.now_ms()), ["ann", "ben"])
    board.put_gateway(report(2, board.now_ms()), ["ben", "cid"])

    assert board.users() == 3


def test_who_has_a_live_job_is_a_user_without_a_request(board: SignalBoard, ledger: Ledger) -> None:
    job_id = ledger.submit(a_job(tenant="ann", metered=True)).job_id
    ledger.submit(a_job(tenant="ann", metered=True))
    ledger.submit(a_job(tenant="logins"))  # nobody's own
    assert board.users() == 1

    ledger.cancel(job_id)
    assert board.users() == 1


def test_who_was_not_seen_for_a_minute_is_none_any_more(board: SignalBoard, ledger: Ledger) -> None:
    ledger.submit(a_job(tenant="working", metered=True))
    old_ms = board.now_ms() - WINDOW_S * 1000
    board.put_gateway(report(1, old_ms - 1), ["gone"])
    board.put_gateway(report(1, old_ms + 30_000), ["here"])

    assert board.users() == 2


def test_thousands_of_users_are_counted(board: SignalBoard, client: redis.Redis) -> None:
    board.put_gateway(report(1, board.now_ms()), [f"seen-{number}" for number in range(2500)])
    client.hset("inflight", mapping={f"live-{number}": 1 for number in range(2500)})

    assert board.users() == 5000
