"""The routing task's word to a worker, as a remote-control command of Celery's:

    app.control.broadcast("route", destination=["model@server-1"], arguments={
        "epoch": 7, "hold": ["model"], "slots": None, "for_s": 15.0})

The worker takes nothing new of the services in `hold`, and of no others by this wish, for `for_s` or until the next word;
what runs ends. It runs `slots` jobs at a time, as far as its own bounds allow; None: as many as it started with. A word of
an earlier epoch than the last one is refused, and so is one that cannot be read, with a reply that says why; nothing of it
is done then.
"""

from dataclasses import dataclass
from typing import Any

from celery.worker.control import control_command

from app import logs
from app.errors import TandemError
from app.job import Service
from workers.holding import WordRefused

_LONGEST_S = 300.0  # a word that holds for longer than a leader's absence may last is a mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the routing task asks of a worker."""

    epoch: int  # of the leader that speaks
    hold: tuple[Service, ...]
    slots: int | None
    for_s: float


@control_command()  # type: ignore[untyped-decorator]
def route(state: Any, **arguments: Any) -> dict[str, Any]:
    """Take nothing new of some services for a while, and run so many jobs at a time: the routing task's word."""
    try:
        held, slots = state.consumer.heed(read(arguments))
    except TandemError as exc:
        logs.event("word_refused", worker=state.hostname, why=str(exc))
        return {"error": str(exc)}
    return {"ok": {"held": held, "slots": slots}}


def read(arguments: dict[str, Any]) -> Word:
    """Return the word that these arguments are. Raises `WordRefused` naming what is wrong with them."""
    if unknown := sorted(arguments.keys() - {"epoch", "hold", "slots", "for_s"}):
        raise WordRefused(f"{unknown[0]} is not an argument of route; there are: epoch, hold, slots, for_s")
    given: list[Any] = [arguments.get(name) for name in ("epoch", "hold", "slots", "for_s")]
    epoch, hold, slots, for_s = given
    if not _is_whole(epoch):
        raise WordRefused(f"epoch must be a whole number, 0 or above; got {epoch!r}")
    if not isinstance(hold, list | tuple) or not all(isinstance(name, str) and name in set(Service) for name in hold):
        raise WordRefused(f"hold must be a list of services, of {', '.join(Service)}; got {hold!r}")
    if slots is not None and not _is_whole(slots):
        raise WordRefused(f"slots must be a whole number, or None for those that the worker started with; got {slots!r}")
    if isinstance(for_s, bool) or not isinstance(for_s, int | float) or not 0 < for_s <= _LONGEST_S:
        raise WordRefused(f"for_s must be above 0 and at most {_LONGEST_S:g} seconds; got {for_s!r}")
    return Word(epoch=epoch, hold=tuple(Service(name) for name in hold), slots=slots, for_s=float(for_s))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
