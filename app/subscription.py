"""Hears a Redis channel for as long as somebody wants to.

What is published while the connection is broken is not heard, and nobody says so; but after each break the channel is
subscribed to again, and that is told: whoever depends on hearing everything has to look for himself then.
"""

import time
from collections.abc import Callable

import redis

from app import logs

BLOCK_S = 1.0  # how long one read waits: so long a thread may outlive the wish for it
_PAUSE_S = 0.5  # between two tries to reach Redis


def hear(client: redis.Redis, channel: str, *, each: Callable[[bytes], None], subscribed: Callable[[], None],
         wanted: Callable[[], bool]) -> None:
    """Call `each` with what is published, until `wanted` says no; `subscribed` each time that the hearing begins (anew)."""
    going = True
    while going:
        try:
            with client.pubsub() as subscription:
                subscription.subscribe(channel)
                while going := wanted():
                    message = subscription.get_message(timeout=BLOCK_S)
                    if message and message["type"] == "message":
                        each(message["data"])
                    elif message:
                        subscribed()
        except (redis.exceptions.RedisError, OSError) as exc:
            logs.event("subscription_broken", channel=channel, why=str(exc))
            time.sleep(_PAUSE_S)
            going = wanted()
