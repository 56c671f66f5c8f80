"""`python -m ops.bench profile`: where the processor time of submits, polls and whole jobs goes.

It is the whole stack, loaded as in B1, B2 and B3, with a sampler (`sampler.py`) in both gateways.
"""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import app
from ops.bench import bill, sampler, wrk
from ops.bench.call import Call
from ops.bench.rounds import running
from ops.bench.rows.submits import STALL_S
from ops.bench.rows.throughput import have_done
from ops.bench.subjects.peer import HOME
from ops.bench.subjects.tandem import Tandem
from ops.waiting import wait_until

_CHECKOUT = Path(app.__file__).parent.parent
_SETTLE_S = 2  # whole seconds of samples are counted, so what comes before and after is kept at a distance
_TOP = 12  # functions to list
_JOBS = 3000
_SHORTEST_S = 4.0  # of load: two or three whole seconds of samples


@dataclass(frozen=True, slots=True)
class _Phase:
    """A time in which the gateways did one thing only: its whole Unix seconds, the calls answered in each, and who paid
    for them, as Markdown."""

    name: str
    first_s: int
    last_s: int
    calls_per_s: float
    bill: str


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to load each path")
    print(profile(parser.parse_args(arguments).seconds))
    return 0


def profile(seconds: float) -> str:
    """Measure, and return the tables as Markdown."""
    seconds = max(seconds, _SHORTEST_S)
    wrk.check_installed()
    folder = (HOME / "run" / "profile").absolute()
    samples = folder / "samples"
    tandem = Tandem({"GUNICORN_CMD_ARGS": "--config=python:ops.bench.sampler", sampler.FOLDER_VARIABLE: str(samples)})
    gathered: list[dict[str, dict[str, float]]] = []
    with running(tandem, folder):
        samples.mkdir()
        polled = tandem.poll(tandem.submit("hello").once(tandem.address)["id"])
        wait_until(lambda: tandem.text(polled.once(tandem.address)), timeout_s=30, what="a job to be done")
        poll = _load("poll", polled, tandem, seconds)
        whole = _whole_jobs(tandem)
        submit = _load("submit", tandem.submit("hello", stall_s=STALL_S), tandem, seconds)
        tandem.stop()
        gathered += [json.loads(path.read_text()) for path in samples.iterdir()]
    return "\n\n".join([*(_tables(phase, _spent(phase, gathered)) for phase in (submit, poll)), whole])


def _whole_jobs(tandem: Tandem) -> str:
    """Have some jobs done, and return who spent what on them."""
    before = bill.processor_s(tandem.supervisors())
    _, took_s = have_done(tandem, _JOBS)
    return bill.table("A job from end to end", bill.processor_s(tandem.supervisors()) - before, count=_JOBS, took_s=took_s)


def _load(name: str, call: Call, tandem: Tandem, seconds: float) -> _Phase:
    time.sleep(_SETTLE_S)
    wrk.warm_up(call, tandem.address)
    before, began = bill.processor_s(tandem.supervisors()), time.time()
    seen = wrk.load_warm(call, tandem.address, seconds)
    end, after = time.time(), bill.processor_s(tandem.supervisors())
    costs = bill.table(f"A {name}", after - before, count=seen.per_s * (end - began), took_s=end - began)
    return _Phase(name, math.ceil(began), math.floor(end) - 1, seen.per_s, costs)


def _spent(phase: _Phase, gathered: Sequence[dict[str, dict[str, float]]]) -> Counter[str]:
    """Return function -> microseconds of processor time for each call."""
    spent: Counter[str] = Counter()
    calls = phase.calls_per_s * (phase.last_s - phase.first_s + 1)
    for samples in gathered:
        for second, functions in samples.items():
            if phase.first_s <= int(second) <= phase.last_s:
                spent.update({name: 1e6 * processor_s / calls for name, processor_s in functions.items()})
    return spent


def _tables(phase: _Phase, spent: Counter[str]) -> str:
    parts: Counter[str] = Counter()
    for function, microseconds in spent.items():
        parts[_part(function)] += microseconds
    whole = spent.total()
    lines = [phase.bill, "", f"In the gateways a {phase.name} spends {whole:.0f} µs, in:", "",
             "| part | µs | share |", "|---|---|---|"]
    lines += [f"| {part} | {us:.0f} | {us / whole:.0%} |" for part, us in parts.most_common() if us / whole >= 0.005]
    lines += ["", "The functions with most time of their own, C functions they call included:", "",
              "| function | µs | share |", "|---|---|---|"]
    lines += [f"| `{_short(function)}` | {us:.0f} | {us / whole:.0%} |" for function, us in spent.most_common(_TOP)]
    return "\n".join(lines)


def _part(function: str) -> str:
    """Return whose code it is: a package, or a folder of Tandem's."""
    path = Path(_short(function).partition(":")[0])
    if path.is_absolute() or len(path.parts) < 2 or path.parts[0].startswith("python3"):
        return "Python's own library"
    return "/".join(path.parts[:-1][:2]) if path.parts[0] in ("app", "ops") else path.parts[0]


def _short(function: str) -> str:
    """Return "package/module.py:name", without where it is installed."""
    path, _, name = function.rpartition(":")
    for mark in ("/site-packages/", f"{_CHECKOUT}/", "/lib/"):
        _, found, rest = path.partition(mark)
        if found:
            return f"{rest}:{name}"
    return function
