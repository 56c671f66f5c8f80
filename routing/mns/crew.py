"""Doing one thing to many, several at a time: the answers of a slow service must not have to wait for each other."""

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")

_MOST = 16  # threads, this one included; as many idle connections are kept


def at_once(work: Callable[[_Item], None], items: Iterable[_Item], *, go_on: Callable[[], bool] = lambda: True,
            join_s: Callable[[], float | None] = lambda: None) -> list[_Item]:
    """Call `work`, which raises nothing, with each item, the first ones first, while `go_on`. Wait for the threads that
    help with it, for `join_s` each (None: until they are done). Return what was not begun."""
    waiting = list(items)[::-1]
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                if not waiting or not go_on():
                    return
                item = waiting.pop()
            work(item)

    threads = [threading.Thread(target=run, name="mns-crew", daemon=True) for _ in range(min(_MOST, len(waiting)) - 1)]
    begun = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:  # from Python 3.12 on, none can be started while the interpreter ends
            break
        begun.append(thread)
    run()
    for thread in begun:
        thread.join(join_s())
    return waiting
