"""How many jobs leave for the cloud in this round, and how many come home.

What leaves is a share of the excess, which grows while there is one, a step at a time, and shrinks when home has been calm
for a while: at most one step in `step_s`. Never more than begins there within the target wait, nor than the caps allow.
What has left and not begun comes home when home is calm and can begin it soon, when the cloud turns out to be too slow for
it, and all of it when the breaker opens or nobody is left there to begin it.
"""

import math

import msgspec

from app.routing_records import BreakerState, CloudBreaker, Move
from routing.policy import abroad, home
from routing.policy.round import Round, passed

#: The steps of the share of the excess that leaves in one round.
SHARES = (0.0, 0.25, 0.5, 1.0)

#: More do not leave in one round, whatever the excess: sixteen batches, so that a round lasts about a second.
MOST_A_ROUND = 256


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What moves, and how that has come about."""

    excess: int | None  # None: not known
    share: float
    share_since_s: float
    calm_since_s: float | None
    takes: bool  # jobs can be sent to the cloud now
    wanted: int  # to send, if there were no caps
    send: int
    probe: bool
    recall: int


def flow_after(this: Round, breaker: CloudBreaker, *, pressed: bool, away: bool) -> Flow:
    """Return what is to move now."""
    excess = home.excess(this, pressed=pressed, away=away)
    calm_since_s = None
    if excess == 0:
        calm_since_s = this.now_s if this.before.calm_since_s is None else this.before.calm_since_s
    calm = calm_since_s is not None and this.now_s - calm_since_s >= this.rules.calm_s
    share, since_s = _share(this, breaker, excess, calm=calm)
    probe = bool(excess) and abroad.takes_probe(this, breaker)
    takes = abroad.takes(this, breaker)
    wanted = 1 if probe else 0
    if excess and takes:
        wanted = min(math.ceil(share * excess), abroad.room(this), MOST_A_ROUND)
    send = _within_caps(this, wanted)
    return Flow(excess=excess, share=share, share_since_s=since_s, calm_since_s=calm_since_s, takes=takes, wanted=wanted,
                send=send, probe=probe and send > 0, recall=_recall(this, breaker, calm=calm and not away, pressed=pressed))


def move_after(before: Move | None, jobs: int, this: Round) -> Move | None:
    """Return what goes one way, after `jobs` more; None once nothing has gone for `calm_s`."""
    if jobs:
        since_s, gone = (this.now_s, 0) if before is None else (before.since_s, before.jobs)
        return Move(since_s=since_s, last_s=this.now_s, jobs=gone + jobs)
    return None if before is None or this.now_s - before.last_s >= this.rules.calm_s else before


def _share(this: Round, breaker: CloudBreaker, excess: int | None, *, calm: bool) -> tuple[float, float]:
    """Return the share, and since when it is that."""
    share, since_s = this.before.share, this.before.share_since_s
    step = SHARES.index(share) if share in SHARES else 0
    if not abroad.allowed(this) or breaker.state is not BreakerState.CLOSED:
        step = 0  # when it closes again, it begins small
    elif excess is not None and passed(since_s, this.now_s, this.rules.step_s):
        if excess > 0:
            step = min(step + 1, len(SHARES) - 1)
        elif calm:
            step = max(step - 1, 0)
    return SHARES[step], since_s if SHARES[step] == share else this.now_s


def _within_caps(this: Round, wanted: int) -> int:
    most = None if this.cloud is None else abroad.affordable(this.cloud)
    return wanted if most is None else min(wanted, most)


def _recall(this: Round, breaker: CloudBreaker, *, calm: bool, pressed: bool) -> int:
    cloud = this.cloud
    if cloud is None or cloud.sent <= 0:
        return 0
    if breaker.state is BreakerState.OPEN or cloud.workers <= 0:
        return cloud.sent
    overhang = abroad.overhang(this)
    return max(overhang, min(cloud.sent, home.spare(this, pressed=pressed)) if calm else 0)
