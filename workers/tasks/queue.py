"""The queue service: topics of a tenant, to which messages are published once and from which they are read in order."""

import msgspec

from app.inputs import QueuePublish, QueueRead
from workers import resources
from workers.attempt import Answer, Attempt
from workers.queue_retention import TOPICS
from workers.tasks import job_task

_KEPT = 10_000  # messages a topic keeps
_REMEMBERED_MS = 86_400_000  # a second attempt of the same job within a day publishes nothing new

#: KEYS: topic, memory of the job, topics; ARGV: message, kept, remembered ms, kept for (ms). Returns the message's id. A
#: job that runs twice publishes once.
_PUBLISH = """
local before = redis.call('GET', KEYS[2])
if before then return before end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'message', ARGV[1])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%d', now - ARGV[4]))
redis.call('ZADD', KEYS[3], now, KEYS[1])
redis.call('SET', KEYS[2], id, 'PX', ARGV[3])
return id
"""


def _topic(attempt: Attempt, name: str) -> str:
    return f"topic:{attempt.claim.tenant}:{name}"


@job_task("queue.publish")
def publish(attempt: Attempt) -> Answer:
    """Append a message. Result: `id`, which `after` of a read takes."""
    request = msgspec.json.decode(attempt.claim.input, type=QueuePublish)
    message_id = resources.held().client.eval(
        _PUBLISH, 3, _topic(attempt, request.topic), f"published:{attempt.claim.id}", TOPICS, bytes(request.message), _KEPT,
        _REMEMBERED_MS, round(attempt.node.settings.topic_s * 1000))
    return Answer(result={"id": message_id.decode()})


@job_task("queue.read")
def read(attempt: Attempt) -> Answer:
    """Read on. Result: `messages` (each `id` and `message`) and `next`, to pass as `after` the next time."""
    request = msgspec.json.decode(attempt.claim.input, type=QueueRead)
    entries = resources.held().client.xrange(_topic(attempt, request.topic), min=f"({request.after}", count=request.limit)
    messages = [{"id": entry_id.decode(), "message": msgspec.Raw(fields[b"message"])} for entry_id, fields in entries]
    return Answer(result={"messages": messages, "next": messages[-1]["id"] if messages else request.after})
