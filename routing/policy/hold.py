"""Which services a server is to take nothing new of.

A saturated server is relieved of what someone else can do: another server that is open, and has a worker of that service;
for the model service, where no server can, the cloud. What nobody else can do it goes on with. A server that is down gets
no wish: nobody hears it, and if it works all the same, all the better.

A server that is only busy is not relieved while new jobs are refused: it is slow, and slow is better than refused.

Leaving all model jobs to the cloud stops home's own work, so there must be enough, home must not be at ease again already,
and the cloud must carry what home carries. It is given up as soon as more waits than the cloud has room for; or
where home, without the model's work, is as busy as with it for long, as something else makes it so, such as a cloud worker
on the same CPUs. Then it is not tried again for a while.
"""

from app.job import Service
from app.routing_records import CloudBreaker, Gauge, ServerView, Standing
from app.signals import ServerSignals
from routing.policy import abroad
from routing.policy.home import rate
from routing.policy.round import MODEL, Round

_BUSY = "cpu_percent"

SERVICES = tuple(service.value for service in Service)

#: After the cloud could not do all there is, so long before it is asked again. Each trial costs home some seconds of work.
AGAIN_S = 60.0

#: With model jobs for less of its slots, as after a start, home is busy with something else, and may as well do them.
MUCH = 1 / 8

#: So long home may be as busy as before without it having helped, twice what a processor's alert takes to end; and so long
#: it is not tried again then.
USELESS_S = 120.0
USELESS_AGAIN_S = 600.0


def doable(this: Round, views: dict[str, ServerView]) -> frozenset[str]:
    """Return the services that a server which is open can do, where there is one to be relieved."""
    if not _any_saturated(views):
        return frozenset()
    services = {service for name, view in views.items() if view.standing is Standing.OPEN
                for service in _offered(this.signals.servers[name], this.before.hold.get(name, ()))}
    return frozenset(services)


def is_pressed(views: dict[str, ServerView], done: frozenset[str]) -> bool:
    """Return whether a server is saturated, and no other can do its model jobs."""
    return MODEL not in done and _any_saturated(views)


def away_after(this: Round, views: dict[str, ServerView], gauges: dict[str, Gauge], breaker: CloudBreaker, *,
               pressed: bool) -> tuple[float | None, float]:
    """Return since when all model jobs are left to the cloud, None where they are not; and before when that is not tried
    again."""
    since_s, again_s = this.before.away_since_s, this.before.away_again_s
    if not pressed:
        return None, again_s
    if since_s is None:
        begins = this.now_s >= again_s and _works(this) and _strained(views, gauges) and _carries(this, breaker)
        return this.now_s if begins else None, again_s
    if not _helps(this, breaker):
        return None, this.now_s + AGAIN_S
    return (None, this.now_s + USELESS_AGAIN_S) if _useless(this, since_s) else (since_s, again_s)


def holds(this: Round, views: dict[str, ServerView], done: frozenset[str], *, away: bool) -> dict[str, tuple[str, ...]]:
    """Return what each saturated server is to take nothing new of."""
    relieved = tuple(service for service in SERVICES if service in done or (away and service == MODEL))
    if not relieved:
        return {}
    needed = this.before.shed > 0 and not away
    return {name: relieved for name, view in views.items()
            if view.standing is Standing.SATURATED and not (needed and view.why == (_BUSY,))}


def _any_saturated(views: dict[str, ServerView]) -> bool:
    return any(view.standing is Standing.SATURATED for view in views.values())


def _offered(server: ServerSignals | None, wished: tuple[str, ...]) -> set[str]:
    """Return the services that a server takes new jobs of: those its live workers have, unless an operator holds them."""
    if server is None:
        return set(SERVICES)  # not heard of for a moment: it stands as it did
    had = {worker.partition("@")[0] for worker in server.workers}
    held = set(server.held).difference(wished)
    return {service for service in SERVICES
            if (not had or "all" in had or service in had) and service not in held}


def _works(this: Round) -> bool:
    """Return whether home has so many model jobs that it may be they that saturate it, as far as anybody knows."""
    queue = this.queue
    return queue is None or queue.waiting + queue.running >= max(queue.slots * MUCH, 1)


def _strained(views: dict[str, ServerView], gauges: dict[str, Gauge]) -> bool:
    """Return whether every saturated server is in alert for something that is not at its normal value again already."""
    return all(any(gauges[f"{signal}@{name}"].under_s is None for signal in view.why)
               for name, view in views.items() if view.standing is Standing.SATURATED)


def _useless(this: Round, since_s: float) -> bool:
    """Return whether the saturated servers are still nothing but busy, and none begins to be at ease, as of the round
    before."""
    busy = {name: view.why for name, view in this.before.servers.items() if view.standing is Standing.SATURATED}
    return (this.now_s - since_s >= USELESS_S and all(why == (_BUSY,) for why in busy.values())
            and all(this.before.gauges[f"{_BUSY}@{name}"].under_s is None for name in busy))


def _helps(this: Round, breaker: CloudBreaker) -> bool:
    """Return whether the cloud goes on taking what comes: no more waits than it has room for, and the caps allow."""
    queue, cloud = this.queue, this.cloud
    most = None if cloud is None else abroad.affordable(cloud)
    if not abroad.takes(this, breaker) or most == 0:
        return False
    room = abroad.room(this) if most is None else min(abroad.room(this), most)
    return queue is None or queue.waiting <= room


def _carries(this: Round, breaker: CloudBreaker) -> bool:
    """Return whether the cloud can begin to take all: also what home has done until now."""
    if this.cloud is None or not _helps(this, breaker):
        return False
    pace_s, done = abroad.pace(this), None if this.queue is None else this.queue.rate
    return pace_s is None or done is None or rate(this.cloud.slots, pace_s) >= done
