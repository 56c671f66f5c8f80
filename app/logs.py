"""Log lines: one JSON object a line on standard error. Every line about a job carries its id and attempt.

`event` writes a line and moves the counter of the same name, so that logs and metrics cannot disagree.
"""

import logging
import sys
import threading
from collections import Counter
from typing import Any

import msgspec

_log = logging.getLogger("tandem")
_lock = threading.Lock()

#: Events of this process since it started, by name.
counters: Counter[str] = Counter()


class _JsonLines(logging.Formatter):
    """Writes a record as one JSON object: time, level, event, and what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname, "logger": record.name, "event": record.getMessage()}
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(level: str) -> None:
    """Send all logging of this process to standard error as JSON lines. Celery's own "received" and "succeeded" lines are
    left out: the ledger's events say the same with attempt and outcome; and so is what its pool says in detail, which holds
    the messages' arguments."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(_JsonLines())
    logging.basicConfig(level=level, handlers=[out], force=True)
    for noisy in ("celery.worker.strategy", "celery.app.trace", "celery.pool"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def event(name: str, *, level: int = logging.INFO, exc_info: bool = False, **fields: Any) -> None:
    """Write one event and count it. `fields` are values, never secrets or prompts."""
    with _lock:
        counters[name] += 1
    if _log.isEnabledFor(level):
        _log.log(level, name, extra={"fields": fields}, exc_info=exc_info)
