"""The names of the models served, also while Redis cannot tell."""

import redis

from app.model_names import ModelNames
from app.settings import Settings
from ops import embedded_redis


def test_a_redis_that_is_away_is_not_asked_with_each_request() -> None:
    nowhere = redis.Redis(port=embedded_redis.free_port(), socket_connect_timeout=1)
    asked: list[object] = []
    connect = nowhere.connection_pool.get_connection
    nowhere.connection_pool.get_connection = lambda *a, **k: (asked.append(a), connect(*a, **k))[1]  # type: ignore[method-assign]
    names = ModelNames(nowhere, Settings(engine="scripted"))

    assert [names.all() for _ in range(5)] == [("scripted",)] * 5
    assert len(asked) == 1
