"""Opens Redis by URL: redis://, rediss://, unix://, or sentinel://host:port;sentinel://host:port/db.

Every client gets timeouts (a hung Redis must not hang us for ever) and a short retry: the scripts are safe to repeat.
"""

from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from app.errors import SettingsError
from app.settings import Settings

_RETRIES = 3  # within about half a second: longer outages are the caller's to wait out, with a clear 503


def open_redis(settings: Settings, *, timeout_s: float | None = None) -> redis.Redis:
    """Return a client for the settings' URL; it connects on first use.

    `timeout_s` replaces the socket timeout, for blocking reads. Raises `SettingsError` without a URL.
    """
    if not settings.redis_url:
        raise SettingsError(["no Redis is named: set TANDEM_REDIS_URL, or run `make up`, which starts one"])
    timeout_s = timeout_s or settings.redis_timeout_s
    options = {
        "socket_timeout": timeout_s, "socket_connect_timeout": min(timeout_s, settings.redis_timeout_s),
        "health_check_interval": 10, "retry": Retry(ExponentialBackoff(cap=0.3, base=0.05), _RETRIES),
    }
    if settings.redis_url.startswith("sentinel://"):
        return _through_sentinels(settings, options)
    return redis.Redis.from_url(settings.redis_url, **options)


def _through_sentinels(settings: Settings, options: dict[str, object]) -> redis.Redis:
    """Return a client of whatever node the Sentinels call master, asked anew at each connection."""
    parts = [urlsplit(part) for part in settings.redis_url.split(";")]
    nodes = [(part.hostname or "127.0.0.1", part.port or 26379) for part in parts]
    last = parts[-1]
    password = unquote(parts[0].password) if parts[0].password else None
    sentinels = Sentinel(nodes, sentinel_kwargs={"socket_timeout": 0.5}, **options)
    return sentinels.master_for(
        settings.redis_master_name, db=int(last.path.strip("/") or 0), password=password, **options)
