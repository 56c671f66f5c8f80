"""A tenant's limits in the headers of an answer.

`RateLimit` and `RateLimit-Policy` as in the IETF's draft-ietf-httpapi-ratelimit-headers, `x-ratelimit-*` as OpenAI sends
them. Only the limits that the tenant has are told.
"""

from collections.abc import Sequence
from typing import Any

from flask import g

from app.errors import LimitExceeded
from app.inputs import CacheWarm, Sampling
from app.ledger import Limit, Submission

_MINUTE_S = 60
_BYTES_PER_TOKEN = 3  # of a prompt, at least, for what a request may cost; what it did cost is counted when it has ended

_WORDS = {"requests": "requests in a minute", "tokens": "tokens in a minute", "jobs": "jobs in flight"}


def most_tokens(decoded: Any, size: int) -> int:
    """Return how many tokens a job may cost, `size` being the bytes of its input."""
    if not isinstance(decoded, Sampling | CacheWarm):
        return 0
    answers = [decoded] if isinstance(decoded, Sampling) else decoded.requests
    return size // _BYTES_PER_TOKEN + sum(answer.max_tokens for answer in answers)


def note(submission: Submission) -> None:
    """Have the limits told with the answer to the request at hand. Raises `LimitExceeded` where one is used up."""
    if submission.limits:
        g.limits = submission.limits
    if submission.shortage:
        short = submission.shortage
        most = next(limit.most for limit in submission.limits if limit.name == short.name)
        raise LimitExceeded(f"the limit of this account, {_WORDS[short.name]}: {most}, is reached; try again in "
                            f"{-(-short.wait_ms // 1000)} s", retry_after_s=short.wait_ms / 1000)


def headers() -> list[tuple[str, str]]:
    """Return the headers for the answer to the request at hand."""
    limits: Sequence[Limit] = g.get("limits", ())
    if not limits:
        return []
    told = [("RateLimit-Policy", ", ".join(map(_policy, limits))), ("RateLimit", ", ".join(map(_state, limits)))]
    for limit in limits:
        told += [(f"x-ratelimit-limit-{limit.name}", str(limit.most)),
                 (f"x-ratelimit-remaining-{limit.name}", str(limit.left)),
                 (f"x-ratelimit-reset-{limit.name}", f"{limit.whole_ms / 1000:g}s")]
    return told


def _policy(limit: Limit) -> str:
    window = "" if limit.name == "jobs" else f";w={_MINUTE_S}"
    unit = ';qu="tokens"' if limit.name == "tokens" else ""
    return f'"{limit.name}";q={limit.most}{unit}{window}'


def _state(limit: Limit) -> str:
    return f'"{limit.name}";r={limit.left};t={-(-limit.whole_ms // 1000)}'
