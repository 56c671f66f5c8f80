"""The one waiting function: waits for a condition, and says what it waited for when it never came."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], *, timeout_s: float, what: str, every_s: float = 0.05) -> Found:
    """Return the first true answer of `condition`. Raises `TimeoutError` naming `what` after `timeout_s`."""
    give_up_at = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(every_s)
    return found
