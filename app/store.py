"""Opens Redis by URL: redis://, rediss://, unix://, or sentinel://host:port;sentinel://host:port/db.

Every client gets timeouts (a hung Redis must not hang us for ever) and a short retry: the scripts are safe to repeat.
"""

from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from app.errors import SettingsError
from app.settings import Settings

#: How many Redis servers hold a job that was accepted: one, until a replica is waited for.
DURABILITY = 1

#: Tries after a broken or refused connection, within about half a second: longer outages are the caller's to wait out, with
#: a clear 503. A timeout is not tried again: redis-py would, within each try, connect as many times, and a hung Redis hold
#: a caller for sixteen timeouts.
_RETRIES = 3


def open_redis(settings: Settings, *, timeout_s: float | None = None) -> redis.Redis:
    """Return a client for the settings' URL; it connects on first use.

    `timeout_s` replaces the socket timeout, for blocking reads. Raises `SettingsError` without a URL.
    """
    if not settings.redis_url:
        raise SettingsError(["no Redis is named: set TANDEM_REDIS_URL, or run `make up`, which starts one"])
    timeout_s = timeout_s or settings.redis_timeout_s
    options = {
        "socket_timeout": timeout_s, "socket_connect_timeout": min(timeout_s, settings.redis_timeout_s),
        "health_check_interval": 10, "retry": Retry(ExponentialBackoff(cap=0.3, base=0.05), _RETRIES,
                                                    supported_errors=(redis.exceptions.ConnectionError,)),
    }
    if settings.redis_url.startswith("sentinel://"):
        return _through_sentinels(settings, options)
    return redis.Redis.from_url(settings.redis_url, **options)


def _through_sentinels(settings: Settings, options: dict[str, object]) -> redis.Redis:
    """Return a client of whatever node the Sentinels call master, asked anew at each connection."""
    parts = [urlsplit(part) for part in settings.redis_url.split(";")]
    first, databases = parts[0], {part.path.strip("/") or "0" for part in parts}
    if len(databases) > 1 or not min(databases).isdecimal() or any(part.scheme != "sentinel" for part in parts):
        # kombu goes by the first part: with another database the wake-ups would lie where no worker looks
        raise SettingsError(["TANDEM_REDIS_URL must give each sentinel the same way, with the same database number, e.g. "
                             "sentinel://a:26379/0;sentinel://b:26379/0"])
    nodes = [(part.hostname or "127.0.0.1", part.port or 26379) for part in parts]
    username, password = (unquote(text) if text else None for text in (first.username, first.password))
    sentinels = Sentinel(nodes, sentinel_kwargs={"socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}, **options)
    return sentinels.master_for(
        settings.redis_master_name, db=int(databases.pop()), username=username, password=password, **options)
