"""A run as text: a table of its figures, a small chart, and the transitions."""

from collections.abc import Callable, Mapping, Sequence

from app.routing_rules import Rules
from ops.simulate.record import TRANSITIONS, Run, Second, percentile

_COLUMNS = 72  # of a chart
_BLOCKS = " ▁▂▃▄▅▆▇█"
_MOST_CHANGES = 40  # that are listed

#: The rows of the chart: the label, what of a second is drawn, and how the seconds of a column become one value.
_SERIES: tuple[tuple[str, Callable[[Second], float], Callable[[Sequence[float]], float]], ...] = (
    ("jobs that come, /s", lambda each: each.arrivals, lambda values: sum(values) / len(values)),
    ("waiting at home", lambda each: each.waiting, max),
    ("running at home", lambda each: each.running, max),
    ("live in the cloud", lambda each: each.cloud, max),
    ("busiest CPU, %", lambda each: max(each.cpu), max),
    ("servers that take jobs", lambda each: each.open, min),
    ("money in the last hour", lambda each: each.money_hour, max),
    ("refused, /s", lambda each: each.shed, lambda values: sum(values) / len(values)),
)


def report(runs: Sequence[tuple[str, Run]], rules: Rules) -> str:
    """Return one run, or several beside each other, as text, each named for its rules; `rules` are the first's."""
    parts = [_table(runs)]
    for name, run in runs:
        parts += [f"{run.name}, {name}", chart(run), _changes(run)]
    parts.append(f"Money is in the currency of the topology's prices; the cap is {rules.cloud_money_per_hour:g} an hour.")
    return "\n\n".join(parts) + "\n"


def figures(run: Run) -> list[tuple[str, str]]:
    """Return what is asked of a run: names and values."""
    kinds = run.transitions()
    waits, responses = run.waits_s, run.responses_s
    shed = sum(run.shed.values())
    return [
        ("simulated", f"{_clock(len(run.seconds))} in {run.cpu_s:.1f} s of CPU: {run.speed_up:,.0f} times as fast"),
        ("jobs accepted", f"{run.accepted:,}"),
        ("succeeded / failed / live", f"{run.succeeded:,} / {run.failed:,} / {run.live:,}"),
        ("refused (shed)", f"{shed:,}" + _of_which(run.shed)),
        ("no server up", f"{run.unreachable:,}"),
        ("run in the cloud", f"{run.in_cloud:,} ({100 * run.in_cloud / max(len(run.begun), 1):.1f} %)"),
        ("peak share in the cloud", f"{100 * run.peak_share:.0f} %"),
        ("cost", f"{run.money:.3f}"),
        ("dearest hour", f"{max((each.money_hour for each in run.seconds), default=0.0):.3f}"),
        ("wait p50 / p95 / max, s", f"{percentile(waits, 0.5):.1f} / {percentile(waits, 0.95):.1f} / "
                                    f"{percentile(waits, 1):.1f}"),
        ("response p50 / p95 / max, s", f"{percentile(responses, 0.5):.1f} / {percentile(responses, 0.95):.1f} / "
                                        f"{percentile(responses, 1):.1f}"),
        ("most waiting", f"{max((each.waiting for each in run.seconds), default=0):,}"),
        ("transitions", f"{kinds.total():,}" + _of_which(kinds)),
    ]


def _of_which(counts: Mapping[str, int]) -> str:
    parts = [f"{name} {count:,}" for name, count in counts.items() if count]
    return f" ({', '.join(parts)})" if parts else ""


def chart(run: Run) -> str:
    """Return the run over time, a line for each series."""
    width = max((len(run.seconds) + _COLUMNS - 1) // _COLUMNS, 1)
    lines = []
    for label, of, together in _SERIES:
        values = [of(each) for each in run.seconds]
        columns = [together(values[start:start + width]) for start in range(0, len(values), width)]
        top = max(columns, default=0.0)
        drawn = "".join(_BLOCKS[0 if value <= 0 else max(round(value / top * 8), 1)] for value in columns)
        lines.append(f"{label:>22} |{drawn:<{_COLUMNS}}| most {top:,.4g}")
    lines.append(f"{'':>22}  0{_clock(len(run.seconds)):>{min(len(run.seconds) // width, _COLUMNS)}}   "
                 f"a column is {_clock(width)}")
    return "\n".join(lines)


def _table(runs: Sequence[tuple[str, Run]]) -> str:
    columns = [figures(run) for _, run in runs]
    rows = [["", *(name for name, _ in runs)]]
    rows += [[name, *(column[row][1] for column in columns)] for row, (name, _) in enumerate(columns[0])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(runs)), *lines[1:]])


def _changes(run: Run) -> str:
    found = [(at_s, change) for at_s, change in run.changes if change.what in TRANSITIONS]
    lines = [f"{_clock(round(at_s)):>9}  {change.what} {change.scope}: {change.before} -> {change.after}; {change.why}"
             for at_s, change in found[:_MOST_CHANGES]]
    more = [f"... and {len(found) - _MOST_CHANGES} more"] if len(found) > _MOST_CHANGES else []
    return "\n".join(["Transitions:", *(lines or ["    none"]), *more])


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
