"""The breaker before the cloud.

    closed    -> open       `breaker_failures` in a row: posts that MNS did not take, rounds in which jobs came home because
                            nobody in the cloud began them or was heard of again, rounds in which MNS was not reached, or
                            rounds in which jobs failed there or were given back
    open      -> half-open  after `breaker_open_s`, doubled with each opening, to thirty times; not while MNS is not reached
    half-open -> closed     `breaker_probes` jobs were begun in the cloud; or, where there was none to try it with, MNS was
                            reached for as long as it is open at most
    half-open -> open       one failure

A job begun in the cloud is the one proof that the way there works, so it alone ends a row of failures; and one that ended
well there, that the engine works, so it alone ends a row of failed jobs. Counts that are smaller than those seen before
began anew (an empty Redis), and say nothing in that round.
"""

import msgspec

from app.routing_records import BreakerState, CloudBreaker
from app.signals import CloudSignals
from routing.policy.round import Round

#: The longest time open, as a multiple of the first; closed for that long, its openings are forgotten.
_LONGEST = 30


def breaker_after(this: Round) -> CloudBreaker:
    """Return the breaker after this round."""
    before, cloud = this.before.breaker, this.cloud
    if cloud is None:
        return before
    first = this.before.at_s == 0.0
    begun, failed = _news(before, cloud, first=first)
    ended, spoilt = _ends(before, cloud, first=first)
    seen = msgspec.structs.replace(
        before, posts=cloud.posts, posts_failed=cloud.posts_failed, lapsed=cloud.lapsed, begun=cloud.begun,
        succeeded=cloud.succeeded, failed=cloud.failed,
        unreached=before.unreached + 1 if cloud.reachable is False else 0,
        failures=(0 if begun else before.failures) + failed,
        faults=0 if ended else before.faults + min(spoilt, 1),
        successes=before.successes + begun if before.state is BreakerState.HALF_OPEN else 0)
    if before.state is BreakerState.CLOSED:
        return _while_closed(this, seen)
    if before.state is BreakerState.OPEN:
        return _while_open(this, seen)
    if failed or seen.unreached or seen.faults > before.faults:
        return _opened(this, seen)
    return _while_half_open(this, seen, cloud)


def cause(breaker: CloudBreaker) -> str:
    """Return why it opened, as the beginning of a sentence."""
    if breaker.unreached:
        return f"MNS was not reached in {breaker.unreached} rounds in a row"
    if breaker.faults > breaker.failures:
        return f"jobs failed there in {breaker.faults} rounds, and none ended well"
    return f"{breaker.failures} posts or jobs failed in a row"


def _news(before: CloudBreaker, cloud: CloudSignals, *, first: bool) -> tuple[int, int]:
    """Return what happened since the round before: jobs begun; and posts that failed, and one more if jobs lapsed, however
    many, as one worker that dies takes all of its own with it."""
    posts, failed = cloud.posts - before.posts, cloud.posts_failed - before.posts_failed
    lapsed, begun = cloud.lapsed - before.lapsed, cloud.begun - before.begun
    if first or min(posts, failed, lapsed, begun) < 0:
        return 0, 0
    return begun, failed + min(lapsed, 1)


def _ends(before: CloudBreaker, cloud: CloudSignals, *, first: bool) -> tuple[int, int]:
    """Return how many jobs ended well there since the round before, and how many did not."""
    succeeded, failed = cloud.succeeded - before.succeeded, cloud.failed - before.failed
    return (0, 0) if first or min(succeeded, failed) < 0 else (succeeded, failed)


def _while_closed(this: Round, seen: CloudBreaker) -> CloudBreaker:
    if max(seen.failures, seen.unreached, seen.faults) >= this.rules.breaker_failures:
        return _opened(this, seen)
    if seen.openings and this.now_s - seen.since_s >= _longest_s(this):
        return msgspec.structs.replace(seen, openings=0)
    return seen


def _while_open(this: Round, seen: CloudBreaker) -> CloudBreaker:
    if this.now_s < seen.until_s:
        return seen
    if seen.unreached:
        return msgspec.structs.replace(_opened(this, seen), since_s=seen.since_s)
    return msgspec.structs.replace(seen, state=BreakerState.HALF_OPEN, since_s=this.now_s, until_s=0.0, failures=0,
                                   faults=0, successes=0)


def _while_half_open(this: Round, seen: CloudBreaker, cloud: CloudSignals) -> CloudBreaker:
    untried = not cloud.sent and cloud.reachable is True and this.now_s - seen.since_s >= _longest_s(this)
    if seen.successes >= this.rules.breaker_probes or untried:
        return msgspec.structs.replace(seen, state=BreakerState.CLOSED, since_s=this.now_s, failures=0, faults=0)
    return seen


def _opened(this: Round, seen: CloudBreaker) -> CloudBreaker:
    """Return it open, for twice as long as the last time."""
    open_s = min(this.rules.breaker_open_s * 2.0 ** min(seen.openings, _LONGEST), _longest_s(this))
    return msgspec.structs.replace(seen, state=BreakerState.OPEN, since_s=this.now_s, until_s=this.now_s + open_s,
                                   openings=seen.openings + 1)


def _longest_s(this: Round) -> float:
    return _LONGEST * this.rules.breaker_open_s
