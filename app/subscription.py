"""Hears a Redis channel for as long as somebody wants to.

What is published while the connection is broken is not heard, and nobody says so; but after each break the channel is
subscribed to again, and that is told: whoever depends on hearing everything has to look for himself then. A connection
over which nothing comes, answers to pings included, is as good as broken.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

from app import logs

BLOCK_S = 1.0  # how long one read waits: so long a thread may outlive the wish for it
#: A connection that is silent for so long is given up, and pinged from half of it on: twice the time between the checks of
#: `app.store`'s clients.
SILENT_S = 20.0
_PAUSE_S = 0.5  # between two tries to reach Redis


def hear(client: redis.Redis, channel: str, *, each: Callable[[bytes], None], subscribed: Callable[[], None],
         wanted: Callable[[], bool], silent_s: float = SILENT_S) -> None:
    """Call `each` with what is published, until `wanted` says no; `subscribed` each time that the hearing begins (anew).
    Raises nothing: it is what a thread is for, and whatever goes wrong, the thread is to hear on."""
    going = True
    while going:
        try:
            with client.pubsub() as subscription:
                subscription.subscribe(channel)
                for kind, data in _messages(subscription, wanted, silent_s):
                    if kind == "message":
                        each(data)
                    elif kind == "subscribe":
                        subscribed()
            return
        except (redis.exceptions.RedisError, OSError) as exc:
            logs.event("subscription_broken", channel=channel, why=str(exc))
        except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: nobody would begin another
            logs.event("subscription_failed", level=logging.ERROR, exc_info=True, channel=channel, why=str(exc))
        time.sleep(_PAUSE_S)
        going = wanted()


def _messages(subscription: redis.client.PubSub, wanted: Callable[[], bool],
              silent_s: float) -> Iterator[tuple[str, Any]]:
    """Yield the kind and the data of each message. Raises redis's `TimeoutError` when the connection is silent."""
    heard_s = time.monotonic()
    while wanted():
        message = subscription.get_message(timeout=min(BLOCK_S, silent_s / 4))
        quiet_s = time.monotonic() - heard_s
        if message:
            heard_s = time.monotonic()
            yield message["type"], message["data"]
        elif quiet_s >= silent_s:
            raise redis.exceptions.TimeoutError(f"nothing came for {quiet_s:.0f} s, not even the answer to a ping")
        elif quiet_s >= silent_s / 2:
            subscription.ping()
