"""Samples what the torch engine's thread is at, from another thread of its process: every few ms its stack is looked at,
and the time put down to the part of the engine that is innermost on it.

The threads' turns are made short meanwhile, because a look can only be had between two steps of Python or while torch
computes.
"""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType

_EVERY_S = 0.003
_SWITCH_S = 1e-4
_TOP = 16  # lines of a table
_ENGINE_THREAD = "tandem-engine"

#: File of the engine -> what its time is for.
_PARTS = {
    "text.py": "text", "reasoning.py": "text", "prompts.py": "text", "sampling.py": "picking", "rows.py": "keys and values",
    "prefixes.py": "prefixes", "memory.py": "prefixes", "ragged.py": "masks and positions",
    "separate.py": "masks and positions", "packing.py": "the model", "batcher.py": "rest of the batcher",
    "decoding.py": "rest of the batcher", "pace.py": "rest of the batcher"}
_RUNNERS = ("ragged.py", "separate.py")
_PHASES = {"read": "reading prompts", "step": "steps"}


class Profile:
    """What was seen between entering and leaving the context."""

    def __init__(self) -> None:
        self._parts: defaultdict[str, float] = defaultdict(float)
        self._functions: defaultdict[str, float] = defaultdict(float)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._switch_s = sys.getswitchinterval()

    def __enter__(self) -> None:
        sys.setswitchinterval(_SWITCH_S)
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        sys.setswitchinterval(self._switch_s)

    def text(self) -> str:
        """Return the tables as Markdown."""
        return "\n\n".join((
            f"The engine's thread was seen for {sum(self._parts.values()):.1f} s, at:", _table("part", self._parts),
            "The functions with most time of their own, what they call in C included:",
            _table("function", self._functions)))

    def _look(self) -> None:
        engine = next(thread.ident for thread in threading.enumerate() if thread.name == _ENGINE_THREAD)
        before_s = time.perf_counter()
        while not self._over.wait(_EVERY_S):
            frame, now_s = sys._current_frames().get(engine or 0), time.perf_counter()
            if frame is not None:
                path = Path(frame.f_code.co_filename)
                self._parts[part(frame)] += now_s - before_s
                self._functions[f"{path.parent.name}/{path.name}:{frame.f_code.co_name}"] += now_s - before_s
            before_s = now_s


def _table(what: str, spent: Mapping[str, float]) -> str:
    whole_s = sum(spent.values())
    lines = [f"| {what} | s | share |", "|---|---|---|"]
    lines += [f"| {name} | {spent_s:.2f} | {spent_s / whole_s:.1%} |"
              for name, spent_s in sorted(spent.items(), key=lambda each: -each[1])[:_TOP]]
    return "\n".join(lines)


def part(frame: FrameType) -> str:
    """Return which part of the engine a stack is at, by its innermost frame."""
    inner, innermost, phase = "", True, ""
    at: FrameType | None = frame
    while at is not None:
        path, function = Path(at.f_code.co_filename), at.f_code.co_name
        if path.parent.name == "engine":
            if function == "_await_work":
                return "waiting for requests"
            inner = inner or ("the model" if path.name in _RUNNERS and not innermost
                              else _PARTS.get(path.name, path.name))
            if path.name in _RUNNERS and function in _PHASES:
                phase = _PHASES[function]
        innermost = False
        at = at.f_back
    return f"{phase}: {inner}" if phase else inner or "elsewhere"
