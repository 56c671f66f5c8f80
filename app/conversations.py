"""Where a tenant's conversations lie in Redis, and the order of their jobs.

    conversation:<tenant>:<name>   list: the turns as JSON, oldest first; without it there is no conversation

The jobs of a conversation stand in one line, named as its key is: a turn is answered when the one before it has ended, so
each sees the replies before it and none is lost. Turns are appended by the step that records a job's result.
"""


def turns_key(tenant: str, name: str) -> str:
    """Return the Redis key of a conversation's turns."""
    return f"conversation:{tenant}:{name}"


def line_of(tenant: str, name: str) -> str:
    """Return the line (`NewJob.line`) that all jobs of a conversation stand in."""
    return f"conversation:{tenant}:{name}"
