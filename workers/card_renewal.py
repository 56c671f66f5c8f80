"""Says which model this server serves (`app.model_card`), at start and then again before that is forgotten.

On a thread of its own: neither a worker's start nor a job waits for Redis because of it.
"""

import threading

import redis

from app import logs
from app.model_card import CARD_LIFE_S, ModelCard, publish
from workers.engine import Engine

_EVERY_S = CARD_LIFE_S / 3
_AGAIN_S = 1.0  # while Redis is away


class CardRenewal:
    """Publishes the card of one engine, for as long as the process lives."""

    def __init__(self, client: redis.Redis, server: str, engine: Engine) -> None:
        self._client = client
        self._server = server
        self._card: ModelCard | None
        self._card, self._tokenizer_json = engine.card() or (None, b"")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name="tandem-card", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def stop(self) -> None:
        """Publish no more; what was published runs out by itself."""
        self._stopping.set()
        self._thread.join()

    def _renew_for_ever(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = _EVERY_S if self._published() else _AGAIN_S

    def _published(self) -> bool:
        try:
            publish(self._client, self._server, self._card, self._tokenizer_json)
        except (redis.exceptions.RedisError, OSError) as exc:
            logs.event("model_card_unpublished", why=f"{type(exc).__name__}: {exc}")
            return False
        return True
