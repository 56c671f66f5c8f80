"""RESULTS.md: what the drill has shown, with what it was run on."""

import datetime
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

from app.routing_rules import SIGNALS, Rules
from ops import embedded_redis
from ops.drill.kept import Told
from ops.drill.pace import Pace
from ops.drill.story import Step, Story

FILE = Path(__file__).parent / "RESULTS.md"  # of what `ops.drill.kept` keeps
_WRITTEN = (":(exclude)ops/drill/RESULTS.md", ":(exclude)ops/drill/results.json")  # by drills, so no change of the code
_PACKAGES = ("celery", "kombu", "redis", "flask", "gunicorn")

_HEAD = """# Drilled

`make drill` writes this file, and `python -m ops.drill ROW...` writes those rows anew; it is the only place its figures are
quoted from. Each signal is really raised on a running stack, each load really comes over HTTP, MNS is really away, leaders
are really killed. Times are seconds since the row began, as operators see what happens: in the routing task's rounds (one a
second), alerts, worker entries, and the ledger's records. Other programs on the machine make waits longer, and keep CPUs
from coming down.
"""

_TABLE = """## The threshold table

From when the signal is raised: its value is at or above the alert level; the alert is open; its action is in force (the
server's worker entries hold the model service; a report can be read; worker entries have more slots and another cloud
worker is heard of). The signal ends; the alert is closed; all is as before (the server runs new jobs; pools and cloud
workers have their first size).
"""


def written(stories: Sequence[Told], pace: Pace, *, rules: Rules) -> str:
    """Return the file's text."""
    rows = sorted((story for story in stories if story.name in SIGNALS), key=lambda story: SIGNALS.index(story.name))
    others = [story for story in stories if story not in rows]
    parts = [_HEAD, "\n".join(f"- {name}: {value}" for name, value in _described(pace, rules)) + "\n"]
    if rows:
        parts += [_TABLE, table(rows), *(_figures(story) for story in rows)]
    if others:
        parts += ["## Load above what home can serve, and the books\n", *(whole(story) for story in others)]
    return "\n".join(parts)


def _described(pace: Pace, rules: Rules) -> list[tuple[str, str]]:
    processor = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text())
    redis_server = re.search(r"v=(\S+)", _said(embedded_redis.find_program(), "--version"))
    versions = {"Python": sys.version.split()[0], "Redis": redis_server[1] if redis_server else "unknown",
                **{name: metadata.version(name) for name in _PACKAGES}}
    return [
        ("machine", f"{processor[1] if processor else platform.processor()}, {psutil.cpu_count()} cores, "
                    f"{psutil.virtual_memory().total / 2**30:.0f} GiB; both servers, the cloud worker, MNS and the callers "
                    "share it, each server with a CPU of its own"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        (f"thresholds ({pace.name})", "; ".join(
            f"{name} {each.normal:g} / {each.alert:g}, for {each.for_s:g} s, hold {each.hold_s:g} s"
            for name, each in rules.thresholds.items())
         + ": cpu_percent is out of reach, as all share the CPUs, but in its own row, where it is "
           "{:g} / {:g}".format(*pace.cpu_levels)),
        ("rules", f"target wait {rules.target_wait_s:g} s, step {rules.step_s:g} s, calm {rules.calm_s:g} s, scale step "
                  f"{rules.scale_step_s:g} s, scale down {rules.scale_down_s:g} s")]


def run() -> str:
    """Return what says of which code a story is, and when it was told."""
    commit = _said("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    changed = " with changes not committed" if _said("git", "status", "--porcelain", "--", ".", *_WRITTEN) else ""
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M}, commit {commit}{changed}"


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def table(stories: Sequence[Story | Told]) -> str:
    """Return the steps of rows of the threshold table, as Markdown."""
    lines = ["| signal | " + " | ".join(step.value for step in Step) + " |", "|---|" + "---|" * len(Step)]
    lines += [f"| {story.name} | " + " | ".join(_at(story, step) for step in Step) + " |" for story in stories]
    return "\n".join(lines) + "\n"


def _at(story: Story | Told, step: str) -> str:
    return f"{story.steps[step]:.1f}" if step in story.steps else "**never**"


def _figures(story: Told) -> str:
    told = "; ".join(f"{name}: {value}" for name, value in story.figures.items())
    return f"**{story.name}** ({story.run}): {told}." + "".join(f"\n  **Fault: {fault}**" for fault in story.faults) + "\n"


def whole(story: Story | Told) -> str:
    """Return a story with its own steps and figures, as Markdown."""
    lines = [f"### {story.name}\n", *([f"- told {story.run}"] if isinstance(story, Told) else [])]
    lines += [f"- {at_s:.1f} s: {step}" for step, at_s in story.steps.items()]
    lines += [f"- {name}: **{value}**" for name, value in story.figures.items()]
    lines += [f"- **Fault: {fault}**" for fault in story.faults]
    return "\n".join(lines) + "\n"
