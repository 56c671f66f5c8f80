"""How full a server's memory is: the machine's, or that of a control group with a limit, where that is fuller.

The kernel's figures, of both versions of control groups (cgroups(7)); nothing is changed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_UNLIMITED = 1 << 60  # version 1 tells a limit near 2^63 where there is none


@dataclass(frozen=True, slots=True)
class _Files:
    """Names of a memory group's files."""

    limit: str
    used: str
    cache: str  # in memory.stat: of what is used, files' pages that nobody read lately; they are free for the asking

    def percent(self, folder: Path) -> float | None:
        """Return how full the group is; None where it has no limit, or does not tell."""
        try:
            limit = int((folder / self.limit).read_text())
            used = int((folder / self.used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # not there, or "max"
            return None
        if not 0 < limit < _UNLIMITED:
            return None
        return 100.0 * max(used - int(stat.get(self.cache, 0)), 0) / limit


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file")


def memory_percent(root: Path = Path("/")) -> float:
    """Return how full the memory is, in percent: the machine's, or that of a control group that this process is in, where
    that is fuller. `root` is where /proc and what is mounted are found."""
    return max([float(psutil.virtual_memory().percent), *_groups_percent(root)])


def _groups_percent(root: Path) -> Iterator[float]:
    """Return how full each of this process's control groups is that has a limit, from its own up to the outermost one."""
    for top, group, files in _memory_groups(root):
        folder = group
        while True:
            if (percent := files.percent(folder)) is not None:
                yield percent
            if folder in (top, folder.parent):
                break
            folder = folder.parent


def _memory_groups(root: Path) -> Iterator[tuple[Path, Path, _Files]]:
    """Return where the memory groups are mounted, and this process's own, of either version (cgroups(7))."""
    try:
        own = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in own:
        for mount in mounts:
            kind, options = mount[mount.index("-") + 1], mount[-1].split(",")
            if controllers == "" and kind == "cgroup2":
                files = _VERSION_2
            elif "memory" in controllers.split(",") and kind == "cgroup" and "memory" in options:
                files = _VERSION_1
            else:
                continue
            top = root / mount[4].lstrip("/")
            yield top, top / _within(mount[3], path), files


def _within(mounted: str, path: str) -> str:
    """Return a group's path below what is mounted; the mounted one itself where it is not below it, as in a container that
    sees its own group only."""
    return os.path.relpath(path, mounted) if os.path.commonpath([mounted, path]) == mounted else "."
