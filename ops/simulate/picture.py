"""Runs as a picture: a column of panels for each, with the same scales beside each other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import SettingsError
from app.routing_rules import Rules
from ops.simulate.record import TRANSITIONS, Run, Second

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 600  # at most, of a line
_CROWD = 20  # times as many come in a second as begin: on a plain scale, they would hide all else
_MOST_SERVERS = 4  # whose CPU has a line of its own
_HOME, _CLOUD, _WARM, _GREY = "#2f6f9f", "#d9822b", "#b3362b", "#6b7280"
_KINDS = {"level": "#6b7280", "server": "#b3362b", "breaker": "#7b3fa0", "shed": "#000000", "scale": "#2f7d5b"}


def draw(runs: Sequence[tuple[str, Run, Rules]], path: Path) -> None:
    """Write the picture of some runs; each with what its rules are called, and the rules. Raises `SettingsError` without
    matplotlib."""
    pyplot = plotting()
    panels = (_load, _waiting, _share, _cpu, _money, _transitions)
    figure, axes = pyplot.subplots(len(panels), len(runs), figsize=(11 if len(runs) == 1 else 9 * len(runs), 14),
                                   sharex=True, sharey="row", squeeze=False, height_ratios=(3, 3, 2, 2, 2, 1.5))
    unit, scale = _unit(max(len(run.seconds) for _, run, _ in runs))
    for column, (name, run, rules) in enumerate(runs):
        for row, panel in enumerate(panels):
            axis = axes[row][column]
            panel(axis, run, rules, scale)
            axis.grid(visible=True, color="#e5e7eb")
            axis.tick_params(labelleft=True)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(loc="upper left" if panel is _money else "upper right", fontsize=8, framealpha=0.85)
        axes[0][column].set_title(f"{run.name}, {name}: {run.accepted:,} jobs, {run.in_cloud:,} in the cloud, cost "
                                  f"{run.money:.2f}", fontsize=11)
        axes[-1][column].set_xlabel(unit)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def plotting() -> Any:
    """Return matplotlib's pyplot, which draws into files. Raises `SettingsError` where it is not installed."""
    try:
        import matplotlib
    except ImportError as exc:
        raise SettingsError(["pictures need matplotlib: pip install 'tandem[simulate]', or leave out --png"]) from exc
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot


def _load(axis: "Axes", run: Run, _rules: Rules, scale: float) -> None:
    times, home = _line(run, lambda each: each.begun - each.begun_cloud, _mean, scale)
    _, cloud = _line(run, lambda each: each.begun_cloud, _mean, scale)
    _, shed = _line(run, lambda each: each.shed, _mean, scale)
    crowd = max(each.arrivals for each in run.seconds) > _CROWD * max(max(home), 1.0)
    _, comes = _line(run, lambda each: each.arrivals, max if crowd else _mean, scale)
    axis.stackplot(times, home, cloud, labels=["begin at home", "begin in the cloud"], colors=[_HOME, _CLOUD], alpha=0.75)
    axis.plot(times, comes, color="#111827", linewidth=1, label="come, at most" if crowd else "come")
    if any(shed):
        axis.plot(times, shed, color=_WARM, linewidth=1, label="refused")
    axis.set_ylabel("jobs a second")
    if crowd:
        axis.set_yscale("symlog", linthresh=max(max(home), 1.0))
    axis.set_ylim(bottom=0)


def _waiting(axis: "Axes", run: Run, rules: Rules, scale: float) -> None:
    for label, of, colour in _WAITING:
        times, values = _line(run, of, max, scale)
        axis.plot(times, values, color=colour, linewidth=1, label=label)
    axis.set_ylabel("jobs, seconds")
    axis.axhline(rules.target_wait_s, color=_GREY, linewidth=0.8, linestyle="--",
                 label=f"target wait {rules.target_wait_s:g} s")
    if max(each.waiting for each in run.seconds) > 50 * rules.target_wait_s:
        axis.set_yscale("symlog", linthresh=10)
    axis.set_ylim(bottom=0)


_WAITING: tuple[tuple[str, Callable[[Second], float], str], ...] = (
    ("jobs waiting at home", lambda each: each.waiting, _HOME),
    ("jobs live in the cloud", lambda each: each.cloud, _CLOUD),
    ("age of the oldest waiting, s", lambda each: each.oldest_s, _WARM))


def _share(axis: "Axes", run: Run, _rules: Rules, scale: float) -> None:
    width = max(_width(run), 10)
    begun = [each.begun for each in run.seconds]
    away = [each.begun_cloud for each in run.seconds]
    starts = range(0, len(begun), width)
    shares = [100 * sum(away[at:at + width]) / max(sum(begun[at:at + width]), 1) for at in starts]
    axis.fill_between([at / scale for at in starts], shares, step="post", color=_CLOUD, alpha=0.5,
                      label=f"of the jobs begun (over {width} s)")
    times, policy = _line(run, lambda each: 100 * each.share, max, scale)
    axis.plot(times, policy, color=_GREY, linewidth=0.8, label="of the excess that leaves in a round")
    axis.set_ylabel("in the cloud, %")
    axis.set_ylim(0, 105)


def _cpu(axis: "Axes", run: Run, rules: Rules, scale: float) -> None:
    if len(run.servers) <= _MOST_SERVERS:
        for number, name in enumerate(run.servers):
            times, values = _line(run, lambda each, number=number: each.cpu[number], max, scale)  # type: ignore[misc]
            axis.plot(times, values, linewidth=1, label=name)
    else:
        times, values = _line(run, lambda each: max(each.cpu), max, scale)
        axis.plot(times, values, color=_HOME, linewidth=1, label="the busiest server")
    if threshold := rules.thresholds.get("cpu_percent"):
        axis.axhline(threshold.alert, color=_WARM, linewidth=0.8, linestyle="--", label="alert")
        axis.axhline(threshold.normal, color=_GREY, linewidth=0.8, linestyle="--", label="normal")
    axis.set_ylabel("CPU, %")
    axis.set_ylim(0, 105)


def _money(axis: "Axes", run: Run, rules: Rules, scale: float) -> None:
    times, hour = _line(run, lambda each: each.money_hour, max, scale)
    _, total = _line(run, lambda each: each.money, max, scale)
    axis.plot(times, hour, color=_CLOUD, linewidth=1.2, label=f"in the last hour (cap {rules.cloud_money_per_hour:g})")
    axis.plot(times, total, color=_GREY, linewidth=1, linestyle="--", label="since the beginning")
    if max(hour) > rules.cloud_money_per_hour / 4:
        axis.axhline(rules.cloud_money_per_hour, color=_WARM, linewidth=0.8, linestyle="--", label="cap")
    axis.set_ylabel("money")
    axis.set_ylim(bottom=0)


def _transitions(axis: "Axes", run: Run, _rules: Rules, scale: float) -> None:
    for row, kind in enumerate(reversed(TRANSITIONS)):
        times = [at_s / scale for at_s, change in run.changes if change.what == kind]
        axis.plot(times, [row] * len(times), linestyle="none", marker="|", markersize=9, markeredgewidth=1.5,
                  color=_KINDS[kind])
        axis.text(0.99, row, str(len(times)), transform=axis.get_yaxis_transform(), ha="right", va="center", fontsize=8)
    axis.set_yticks(range(len(TRANSITIONS)), list(reversed(TRANSITIONS)))
    axis.set_ylim(-0.6, len(TRANSITIONS) - 0.4)
    axis.set_ylabel("transitions")


def _line(run: Run, of: Callable[[Second], float], together: Callable[[Sequence[float]], float],
          scale: float) -> tuple[list[float], list[float]]:
    """Return a series as times and values, no more of them than can be seen."""
    width = _width(run)
    values = [of(each) for each in run.seconds]
    starts = range(0, len(values), width)
    return [start / scale for start in starts], [float(together(values[start:start + width])) for start in starts]


def _width(run: Run) -> int:
    return max((len(run.seconds) + _POINTS - 1) // _POINTS, 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _unit(seconds: int) -> tuple[str, float]:
    if seconds > 2 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds > 600 else ("seconds", 1.0)
