"""What the cloud can do: whether jobs can go there, how many more it begins within the target wait, and how many more the
caps allow."""

from app.routing_records import BreakerState, CloudBreaker
from app.signals import CloudSignals
from routing.policy.home import rate
from routing.policy.round import MANY, Round

#: What is out there is aimed at this part of the target wait: a round and a post go by before a job is there.
_AIMED = 0.6


#: The caps, as people are told of them.
JOBS, MONEY = "jobs a minute", "money an hour"


def allowed(this: Round) -> bool:
    """Return whether jobs may ever be sent there: there is a cloud, and no cap is 0, which stands for "no cloud"."""
    rules = this.rules
    return this.cloud is not None and rules.cloud_jobs_per_minute > 0 and rules.cloud_money_per_hour > 0


def takes(this: Round, breaker: CloudBreaker) -> bool:
    """Return whether jobs can be sent there now: the breaker is closed, MNS is reached, somebody is there."""
    return breaker.state is BreakerState.CLOSED and _staffed(this)


def lack(this: Round, breaker: CloudBreaker) -> str:
    """Return why jobs cannot be sent there now, where they cannot."""
    cloud, rules = this.cloud, this.rules
    if cloud is None:
        return "there is no cloud"
    if not allowed(this):
        return f"the cap on {JOBS if rules.cloud_jobs_per_minute <= 0 else MONEY} is 0"
    if cloud.reachable is False:
        return "MNS is not reached"
    if cloud.workers <= 0 or cloud.slots <= 0:
        return "no cloud worker takes jobs"
    return f"the breaker is {breaker.state.value}"


def takes_probe(this: Round, breaker: CloudBreaker) -> bool:
    """Return whether one job may be sent to see whether it works again; not while those before it are on their way."""
    cloud = this.cloud
    return (cloud is not None and breaker.state is BreakerState.HALF_OPEN and _staffed(this)
            and cloud.sent < this.rules.breaker_probes)


def _staffed(this: Round) -> bool:
    cloud = this.cloud
    return (cloud is not None and allowed(this) and cloud.reachable is not False and cloud.workers > 0
            and cloud.slots > 0)


def room(this: Round) -> int:
    """Return how many more jobs begin there within the target wait, by Little's law, as at home. Home's pace stands for
    one that is not known yet, and does not count for more than another job a slot then."""
    cloud = this.cloud
    return max(0, _begun_soon(this) - cloud.sent - cloud.running) if cloud is not None else 0


def overhang(this: Round) -> int:
    """Return how many jobs were sent that wait there for much longer than the target: they were sent by a pace that has
    turned out to be none. Twice the target, so that a pace that wavers does not have jobs go to and fro."""
    cloud = this.cloud
    return max(0, cloud.sent - 2 * _begun_soon(this)) if cloud is not None and cloud.pace_s is not None else 0


def _begun_soon(this: Round) -> int:
    """Return how many jobs the cloud can have begun within the target wait, those that run there included."""
    cloud = this.cloud
    if cloud is None or cloud.workers <= 0 or cloud.slots <= 0:
        return 0
    pace_s = pace(this)
    served = 0 if pace_s is None else int(rate(cloud.slots, pace_s) * this.rules.target_wait_s * _AIMED)
    return cloud.slots + (served if cloud.pace_s is not None else min(served, cloud.slots))


def pace(this: Round) -> float | None:
    """Return how long a job runs there, as far as anybody can say."""
    queue, cloud = this.queue, this.cloud
    for pace_s in (None if cloud is None else cloud.pace_s, None if queue is None else queue.pace_s):
        if pace_s is not None and pace_s > 0:
            return pace_s
    return None


def affordable(cloud: CloudSignals) -> int | None:
    """Return how many jobs the caps allow; None: there is no cap."""
    jobs = cloud.jobs_left if tighter(cloud) == JOBS else _payable(cloud)
    return None if jobs is None else max(0, jobs)


def tighter(cloud: CloudSignals) -> str:
    """Return which cap allows fewer jobs."""
    jobs, paid = cloud.jobs_left, _payable(cloud)
    return MONEY if paid is not None and (jobs is None or paid < jobs) else JOBS


def _payable(cloud: CloudSignals) -> int | None:
    return None if cloud.money_left is None else _paid(cloud.money_left, cloud.job_cost)


def _paid(money: float, cost: float) -> int | None:
    """Return how many jobs so much money pays; None where one costs nothing."""
    if money <= 0:
        return 0  # not even one of which the cost is not known yet
    if cost <= 0:
        return None
    jobs = int(min(money / cost, MANY))
    return jobs if jobs * cost <= money else jobs - 1  # the quotient may have been rounded up
