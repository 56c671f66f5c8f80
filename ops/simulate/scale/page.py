"""SCALE.md: the words, and the figures between them."""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill

from ops.simulate.record import percentile
from ops.simulate.scale import estimate
from ops.simulate.scale.idle_stack import Idle
from ops.simulate.scale.leader import LeaderRound
from ops.simulate.scale.overload import Overload
from ops.simulate.scale.redis_cost import Cost, Load

PICTURE = "scale.png"

_WIDTH = 120  # of a line of the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that was measured and simulated."""

    runs: Sequence[Overload]
    costs: Sequence[Cost]
    loads: Sequence[Load]
    rounds: Sequence[LeaderRound]
    idle: Idle | None


def text(figures: Figures) -> str:
    """Return the page."""
    share = estimate.share(figures.costs, figures.idle)
    return _PAGE.format(
        machine=f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}",
        picture=PICTURE, overload=_overload(figures.runs), rounds=_rounds(figures.rounds), costs=_costs(figures.costs),
        loads=_loads(figures.loads), idle=_idle(figures.idle), shares=_shares(share, figures.rounds),
        slots=estimate.SLOTS, service=estimate.SERVICE_S, polls=estimate.POLLS, says=estimate.SAYS_S,
        full=estimate.FULL_PERCENT, polled=estimate.most_servers(share.polled),
        streamed=estimate.most_servers(share.streamed), fastest=max(load.jobs_s for load in figures.loads))


def _overload(runs: Iterable[Overload]) -> str:
    rows = []
    for each in runs:
        run = each.run
        rows.append((
            each.servers, "grown" if each.grown_caps else "of the file", f"{max(s.arrivals for s in run.seconds):,}",
            f"{percentile(run.waits_s, 0.5):.1f} / {percentile(run.waits_s, 0.95):.1f} / {percentile(run.waits_s, 1):.1f}",
            f"{100 * run.peak_share:.0f} %", f"{run.posts:,}", f"{run.money:.2f}", f"{sum(run.shed.values()):,}",
            run.transitions().total(), f"{run.speed_up:,.0f}"))
    return _table(("servers", "caps", "jobs/s at most", "wait p50 / p95 / max, s", "peak share in the cloud", "sent",
                   "cost", "refused", "transitions", "times as fast as real"), rows)


def _rounds(rounds: Iterable[LeaderRound]) -> str:
    return _table(("servers", "workers", "gather, ms", "decide, ms"),
                  [(each.servers, each.workers, f"{each.gather_ms:.1f}", f"{each.decide_ms:.2f}") for each in rounds])


def _costs(costs: Iterable[Cost]) -> str:
    return _table(("call", "who, and how often", "Redis, µs", "caller, ms"),
                  [(each.name, each.who, f"{each.redis_us:.0f}", f"{each.call_ms:.2f}") for each in costs])


def _loads(loads: Iterable[Load]) -> str:
    return _table(("callers", "jobs/s", "scripts/s", "Redis, % of a CPU"),
                  [(each.callers, f"{each.jobs_s:,.0f}", f"{each.scripts_s:,.0f}", f"{each.redis_percent:.0f}")
                   for each in loads])


def _idle(idle: Idle | None) -> str:
    if idle is None:
        return "No stack was started for this page."
    return fill(
        f"A server that nobody asks anything of holds {idle.connections:.0f} connections to Redis, sends it "
        f"{idle.commands_s:.0f} commands a second, {idle.scripts_s:.0f} of them scripts, and takes "
        f"{idle.redis_percent:.2f} % of a CPU of it (half of what two servers do, Flower's part included). "
        f"Redis's own limit of 10,000 connections would be met by some {10_000 / idle.connections:,.0f} servers.", _WIDTH)


def _shares(share: estimate.Share, rounds: Iterable[LeaderRound]) -> str:
    rows = [(each.servers, f"{each.servers * estimate.SLOTS / estimate.SERVICE_S:,.0f}", f"{each.servers * share.jobs:.1f}",
             f"{each.servers * share.own:.1f}", f"{each.servers * share.words:.1f}", f"{each.servers * share.polled:.0f}",
             f"{each.servers * share.streamed:.0f}") for each in rounds]
    return _table(("servers", "jobs/s", "jobs, %", "beats and reports, %", "words, %", "in all, polled",
                   "in all, streamed"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


_PAGE = """\
# Scale: 2, 8, 64 servers

Written by `python -m ops.simulate scale`; measured on a machine with {machine}, where Redis and those who
call it share the CPUs. A Redis on a machine of its own does more. Run the command on yours, while it does nothing else.

![What takes how much of Redis, and waiting in an overload]({picture})

## The same overload for more servers (simulated)
A minute at 70 % of what home can do, two at 125 %, one at 40 %; jobs of 2 s, a cloud worker of 8 slots for every two
servers, prices and caps of the topology file, or caps that grow with the servers.

{overload}

The policy does the same at each size, as it reckons with slots and not with servers. What does not grow by itself are the
caps: with those of the file 64 servers may send no more than two, and the excess waits. The next limit is the one leader,
which sends one message after the other: at 20 ms each, which is guessed here, that is 50 a second, and never more than the
256 that the policy lets go in one round.

## A round of the leader (measured)
{rounds}

It has a second for each. The gathering grows with the workers, whose entries it reads, all in one round trip.

## What Redis is asked for (measured)
Each call on a Redis that writes to disk before it answers. "Redis" is the processor time that it takes there while 16
callers are busy (less than alone, as it reads and writes for several together), "caller" what one caller alone sees.

{costs}

Whole jobs, by callers that submit, take, beat and settle one after the other:

{loads}

{idle}

## Where the one primary ends (reckoned from these)
A busy server here: {slots} slots with jobs of {service:g} s, each polled {polls} times; or streamed, with what its attempts
say sent {says} times a second. In percent of one CPU, of which Redis uses no more than one for all this. Beats and reports
are those of an idle stack, where Redis wakes for each: an upper bound, as a busy one wakes for several.

{shares}

So a primary like this one, kept below {full:g} %, carries about **{polled} servers** whose callers poll, and about
**{streamed}** if every answer of every job is streamed. No more than {fastest:,.0f} jobs a second were seen here, where the
callers took most of the CPUs. Shorter jobs shift this in proportion.

Before that, in this order: give Redis a machine of its own; let workers gather what they say for longer (`_GATHER_S` in
workers/speech.py: twice as long halves the words' part); fewer beats (`beat_s`, with `lease_s`).

## What to do then: shards by tenant
Tenants share the lines, the counts and the cloud's caps, and nothing else. So the cut is between tenants, and no script
changes.

- **A shard** is a Redis (with its replica) and the servers whose workers take from it: a Tandem of its own, with its own
  queues, its own leader, its own share of the cloud's caps.
- **The shard map** stands in front: a small file that every gateway reads, from 1,024 slots of a hash of the tenant to
  shards. A gateway that is asked by a tenant of another shard passes the request on. Job ids carry nothing of the shard:
  the caller's token says the tenant, and that is enough to find it.
- **Moving a tenant** is drain, then switch: its new jobs are refused with Retry-After (seconds), its live ones end where
  they are, its conversations and limits are copied, and the map's new version names the new shard. Ended jobs stay readable
  at the old one until their retention is over: a gateway that does not find a job asks where the tenant was before.
- **What is then per shard**: fairness between tenants, the caps of the cloud, the thresholds. What is of the whole,
  concurrent users above all, is the sum over the shards, which somebody would have to gather.

None of this is built: two servers need none of it, and the table above says when somebody does.
"""
