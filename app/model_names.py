"""The names of the models served.

A model's name comes from its card (`app.model_card`). An engine without cards goes by the settings, which are the same on
all servers: the upstream's model, or the engine's own name. `default` stands for what is served where that has no name.
"""

import time

import redis

from app import logs, model_card
from app.settings import Settings

ALIAS = "default"

_BELIEVED_S = 5.0


class ModelNames:
    """Knows the names of the models served; reads them again after some seconds."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._named = {"openai": settings.openai_model, "scripted": "scripted"}.get(settings.engine, "") or ALIAS
        self._names: tuple[str, ...] = ()
        self._read_s = float("-inf")  # monotonic

    def all(self) -> tuple[str, ...]:
        """Return the names, at least one. While Redis is away, they are those of before, and it is asked no more often:
        each request would wait for it."""
        if time.monotonic() - self._read_s > _BELIEVED_S:
            self._read_s = time.monotonic()
            try:
                self._names = tuple(dict.fromkeys(card.name for card in model_card.read(self._client)))
            except (redis.exceptions.RedisError, OSError) as exc:
                logs.event("model_names_unreachable", why=f"{type(exc).__name__}: {exc}")
        return self._names or (self._named,)

    @property
    def only(self) -> str | None:
        """The name of the one model that is served; None where there are several, or it has no name."""
        names = self.all()
        return names[0] if len(names) == 1 and names[0] != ALIAS else None
