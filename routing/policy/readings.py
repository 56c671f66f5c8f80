"""What the thresholds are held against: one value for each signal of each server, and of the whole.

Promises: a value that rests on too few samples to say anything is 0, as its server does report; None where nothing is
reported, which is neither fine nor alarming. A server that takes nothing new has few samples after a while: that its error
rate counts as 0 then is what lets it be tried again.
"""

from app.signals import ServerSignals, Signals, Times

#: Percentiles and rates of fewer samples say nothing: of 19, the p95 is the slowest.
ENOUGH = 20

#: Two failures among few are bad luck; with a third there is something to look at.
ENOUGH_FAILURES = 3

USERS = "concurrent_users@all"


def readings(signals: Signals) -> dict[str, float | None]:
    """Return the values, by "<signal>@<server>"; of the whole, by "<signal>@all"."""
    values: dict[str, float | None] = {}
    for name, server in signals.servers.items():
        values["cpu_percent@" + name] = None if server is None else server.cpu_percent
        values["memory_percent@" + name] = None if server is None else server.memory_percent
        values["response_s@" + name] = None if server is None else _response_s(server)
        values["error_percent@" + name] = None if server is None else _error_percent(server)
    values[USERS] = None if signals.users is None else float(signals.users)
    return values


def _response_s(server: ServerSignals) -> float | None:
    """Return the worse p95 of requests answered at once and of those that wait for a job."""
    if server.calls is None:
        return None if server.answers is None else _p95_s(server.answers)
    return _p95_s(server.calls) if server.answers is None else max(_p95_s(server.calls), _p95_s(server.answers))


def _p95_s(times: Times) -> float:
    return times.p95_s if times.count >= ENOUGH else 0.0


def _error_percent(server: ServerSignals) -> float:
    """Return the worse rate of the requests to its gateways and of the attempts of its workers."""
    return max(_percent(server.requests_failed, server.requests), _percent(server.attempts_failed, server.attempts))


def _percent(failed: int, of: int) -> float:
    return 100.0 * failed / of if of >= ENOUGH and failed >= ENOUGH_FAILURES else 0.0
