"""The Huey peer's worker: one task, which writes to Redis when a job starts and when it ends."""

import os

import redis
from huey import RedisHuey

store = redis.Redis.from_url(os.environ["RESULT_URL"], decode_responses=True)
queue = RedisHuey("huey", url=os.environ["BROKER_URL"], results=False)


@queue.task()
def run(job_id: str, prompt: str) -> None:
    """Say the prompt."""
    store.hset("states", job_id, "running")
    store.hset("results", job_id, prompt)
