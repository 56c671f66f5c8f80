"""Throws away what the queue service keeps for a time only: topics to which nothing is published any more, and webhooks
that were put aside.

    topics   ZSET   the topics of all tenants, by when something was last published to them (Unix ms)

Every worker of the queue service does it now and then; twice does no harm. A topic that is published to is trimmed by that.
"""

import redis

from app import logs
from app.ledger.scripts import unavailable
from app.settings import Settings
from app.webhook_dead import DeadDeliveries

TOPICS = "topics"
_AT_A_TIME = 500  # topics

#: KEYS: topics; ARGV: how long a message is kept (ms), how many topics at most. Returns how many topics went.
_FORGET = """
local t = redis.call('TIME')
local oldest = t[1] * 1000 + math.floor(t[2] / 1000) - ARGV[1]
local idle = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', oldest, 'LIMIT', 0, ARGV[2])
for _, topic in ipairs(idle) do
  redis.call('DEL', topic)
  redis.call('ZREM', KEYS[1], topic)
end
return #idle
"""


class QueueRetention:
    """The duty. Raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._forget = client.register_script(_FORGET)
        self._settings = settings
        self._dead = DeadDeliveries(client)

    def trim(self) -> None:
        """Do it once, a bounded piece of it."""
        try:
            topics = self._forget(keys=[TOPICS], args=[round(self._settings.topic_s * 1000), _AT_A_TIME])
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        dead = self._dead.purge(self._settings.webhook_dead_s)
        if topics or dead:
            logs.event("queue_trimmed", topics=topics, webhooks=dead)
