"""The Dramatiq peer's worker: one actor, which writes to Redis when a job starts and when it ends."""

import os

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

store = redis.Redis.from_url(os.environ["RESULT_URL"], decode_responses=True)
dramatiq.set_broker(RedisBroker(url=os.environ["BROKER_URL"]))


@dramatiq.actor
def run(job_id: str, prompt: str) -> None:
    """Say the prompt."""
    store.hset("states", job_id, "running")
    store.hset("results", job_id, prompt)
