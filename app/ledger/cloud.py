"""The ledger's side of the cloud: jobs that are sent there, run there, and come home.

A job that is sent waits under a ticket, which is the right to begin it. The first run of the ticket that is heard of
becomes the owner of the job's next attempt, and from then on is fenced as any owner is: `Ledger.settle` and
`Ledger.release` take its claim. What is sent and not begun can be had back at any time; what has begun stays until its end,
or until it has not been heard of for a lease.

Promises: a job in the cloud is in the set `cloud` until it is begun and in `leases` then; whatever takes it from there
makes its ticket and its run void at once, and says so to those who read `stops`. No minute and no hour sees more sent, or
more money reserved, than the rules of each send allow. Every method may be repeated after a lost
reply, and raises `StoreUnavailable` when Redis cannot do it.
Leaves to others: which jobs to send, and all that travels (routing.cloud).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import redis

from app.errors import InvalidInput
from app.inputs import ModelInput
from app.job import Service, State
from app.ledger import replies
from app.ledger.ledger import new_owner
from app.ledger.records import Cap, Claim, CloudSaying, Place, Spend, Stop
from app.ledger.scripts import Argument, Scripts, unavailable
from app.routing_rules import Rules
from app.settings import Settings

_STREAM, _GROUP = "void", "home"
_AT_A_TIME = 100  # stops that are taken in one call
_ABANDONED_MS = 10_000  # a stop that was taken so long ago and is still there lost its taker

_BATCH = 100  # jobs that a script moves in one call, so that none blocks Redis for more than a few ms
_CALL_KNOWN_MS = 60_000  # how long a recall is remembered; redis-py repeats one within seconds
_PARTS_KEPT_MS = 3_600_000  # how long the parts of an end are kept at most; they go with the run

#: Tokens of an answer to a job that does not say how many it wants.
_USUAL_TOKENS = int(next(field.default for field in msgspec.structs.fields(ModelInput) if field.name == "max_tokens"))

_MICROS = 1_000_000  # money is counted in millionths: whole numbers
_MOST_MONEY = 1e9  # more is as much as this, of which Lua still knows every millionth

#: What a job that was called home says of itself where its caller gives no other reason.
RECALLED = b'{"rule":"recalled","detail":"it was called home before anyone in the cloud began it"}'

Found = TypeVar("Found")


class CloudLedger:
    """All transitions of jobs between here and the cloud. Safe to share between threads.

    `client` may wait as long as `stops` blocks: its timeout must be above that. `now_ms` replaces Redis's clock.
    """

    def __init__(self, client: redis.Redis, settings: Settings, *, now_ms: int | None = None) -> None:
        self._client = client
        self._scripts = Scripts(client)
        self._wait_ms = round(settings.cloud_wait_s * 1000)
        self._lease_ms = round(settings.cloud_lease_s * 1000)
        self.now_ms = now_ms

    def _run(self, name: str, *args: Argument) -> Any:
        return self._scripts.run(name, ("" if self.now_ms is None else self.now_ms, *args))

    def send(self, *, most: int, decision: bytes, rules: Rules,
             service: Service = Service.MODEL) -> tuple[list[Claim], Cap | None]:
        """Send those of the service's waiting jobs that would wait longest, until there are no more, or a cap of the rules
        is reached; return them, last in line first, and the cap. The `owner` of each claim is its ticket, `attempt` the
        last one that there was."""
        sent: list[Claim] = []
        while len(sent) < most:
            tickets = [new_owner() for _ in range(min(most - len(sent), _BATCH))]
            found = self._run("cloud_send", service.value, decision, self._wait_ms, *_purse(rules), *tickets)
            sent += [replies.claim(ticket, reply) for ticket, reply in zip(tickets, found, strict=False)
                     if reply[0] == b"claimed"]
            if found and found[-1][0] == b"capped":
                return sent, Cap(found[-1][1].decode())
            if len(found) < len(tickets):
                break
        return sent, None

    def send_job(self, job_id: str, *, decision: bytes, rules: Rules) -> Claim | Cap | State | None:
        """Send a waiting job; return the claim, as `send` does, or the cap that is reached, or the state that forbids it,
        or None for an unknown id.

        A refusal with "queued" means that the job is held, or delayed, or in the cloud already.
        """
        ticket = new_owner()
        reply = self._run("cloud_send_job", job_id, ticket, decision, self._wait_ms, *_purse(rules))
        if reply[0] == b"refused":
            return None if reply[1] == b"unknown" else State(reply[1].decode())
        return Cap(reply[1].decode()) if reply[0] == b"capped" else replies.claim(ticket, reply)

    def spend(self, rules: Rules, service: Service = Service.MODEL) -> Spend:
        """Return what the cloud costs, and what the rules leave of their caps."""
        jobs, micros, job_micros = self._run("cloud_spend", service.value, *_purse(rules))
        most_jobs, most_micros, *_ = _purse(rules)
        return Spend(jobs_left=max(most_jobs - jobs, 0), money_left=max(most_micros - micros, 0) / _MICROS,
                     money_hour=micros / _MICROS, jobs_minute=jobs, job_cost=job_micros / _MICROS)

    def posted(self, *, taken: int, failed: int) -> None:
        """Count messages to the cloud: those that MNS took, and those that it did not, or of which nobody knows."""
        self._run("cloud_posted", taken, failed)

    def begin(self, job_id: str, ticket: str, place: Place, *, run: str) -> Claim | None:
        """A run has begun: the job's next attempt is its own, under a lease. Said by the same run again, it gets the same
        claim. None where the run is void: the ticket is not valid any more, or another run was heard of first."""
        reply = self._run("cloud_begin", job_id, ticket, run, self._lease_ms, place.worker, place.server, place.processor)
        return None if reply[0] == b"void" else replies.claim(run, reply)

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Renew the leases of runs; return for each whether the job is still the run's. The others are void."""
        if not claims:
            return []
        args: list[Argument] = [self._lease_ms]
        for claim in claims:
            args += [claim.id, claim.owner, claim.attempt]
        return [held == 1 for held in self._run("beat", *args)]

    def say(self, sayings: Sequence[CloudSaying]) -> list[bool]:
        """Tell those who listen what runs say; return for each whether the job is still the run's. What comes too early is
        told when what comes before it is there; what came already is not told again."""
        if not sayings:
            return []
        args: list[Argument] = []
        for saying in sayings:
            claim = saying.claim
            args += [claim.id, claim.owner, claim.attempt, saying.start, saying.start + len(saying.text),
                     saying.voice.value, saying.text]
        return [held == 1 for held in self._run("cloud_say", *args)]

    def part(self, claim: Claim, number: int, of: int, text: str) -> str | None:
        """Keep the part `number`, from 0, of a run's end; return the whole once all parts have come, in whatever order.
        None until then, and where the job is not the run's any more. Raises `InvalidInput` for a number that is none."""
        if not 0 <= number < of:
            raise InvalidInput(f"part {number} of {of} of the end of job {claim.id}: parts are numbered from 0 to {of - 1}")
        whole = self._run("cloud_part", claim.id, claim.owner, claim.attempt, number, of, text, _PARTS_KEPT_MS)
        return None if whole is None else str(whole.decode())

    def recall(self, *, job_ids: Sequence[str] = (), most: int = 0, decision: bytes = RECALLED) -> list[str]:
        """Bring home jobs that were sent and are not begun: these, and so many of those sent last. Return which came.
        `decision` says why, as JSON."""
        home = self._recall_each([(job_id, "") for job_id in job_ids], decision)
        while most > 0:
            wanted = min(most, _BATCH)
            found = self._recall(wanted, decision)
            home, most = home + found, most - wanted if len(found) == wanted else 0
        return home

    def take_back(self, claims: Sequence[Claim], *, decision: bytes) -> list[str]:
        """Bring home what `send` gave these claims for, as far as it is neither begun nor sent anew; return which came."""
        return self._recall_each([(claim.id, claim.owner) for claim in claims], decision)

    def _recall_each(self, named: Sequence[tuple[str, str]], decision: bytes) -> list[str]:
        return [job_id for start in range(0, len(named), _BATCH)
                for job_id in self._recall(0, decision, *named[start:start + _BATCH])]

    def _recall(self, most: int, decision: bytes, *named: tuple[str, str]) -> list[str]:
        parts = (part for pair in named for part in pair)
        return replies.texts(self._run("cloud_recall", new_owner(), most, _CALL_KNOWN_MS, decision, *parts))

    def keep(self, job_id: str, *, decision: bytes) -> bool:
        """Bring home a job that cannot be sent; `send` passes it over from now on. `decision` says why, as JSON. Return
        whether the job still waits."""
        return bool(self._run("cloud_keep", job_id, decision))

    def come_home(self) -> list[str]:
        """Bring home the jobs that nobody in the cloud has begun in time; return which."""
        return replies.texts(self._run("cloud_come_home", _BATCH))

    def void(self, entries: Sequence[tuple[str, str, str]]) -> None:
        """Have the cloud told that these are void: job, ticket or run, worker ("" for all). What the ledger itself makes
        void needs no saying."""
        if entries:
            self._run("cloud_void", *(part for entry in entries for part in entry))

    def stops(self, consumer: str, *, block_ms: int, abandoned_ms: int = _ABANDONED_MS) -> list[Stop]:
        """Return what is void and the cloud is to be told, each to one consumer; wait for it at most so long. What another
        consumer took and left for `abandoned_ms` is returned again, and so is what this one did not say `stopped` to."""
        left = self._reading(lambda: self._client.xautoclaim(_STREAM, _GROUP, consumer, abandoned_ms,
                                                             count=_AT_A_TIME)[1])
        found = [entry for entry in left or [] if entry[1]]
        if not found:
            streams = self._reading(lambda: self._client.xreadgroup(_GROUP, consumer, {_STREAM: ">"}, count=_AT_A_TIME,
                                                                    block=block_ms))
            found = streams[0][1] if streams else []
        return [Stop(entry_id.decode(), fields[b"void"].decode(), fields[b"worker"].decode()) for entry_id, fields in found]

    def stopped(self, entry_ids: Sequence[str]) -> None:
        """The cloud has been told of these."""
        if not entry_ids:
            return
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                pipeline.xack(_STREAM, _GROUP, *entry_ids)
                pipeline.xdel(_STREAM, *entry_ids)
                pipeline.execute()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def _reading(self, read: Callable[[], Found]) -> Found | None:
        """Read the stream; None where its group had to be made, which begins with all that the stream holds."""
        try:
            return read()
        except redis.exceptions.ResponseError as exc:
            if not str(exc).startswith("NOGROUP"):
                raise unavailable(exc) from exc
            self._make_group()
            return None
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def _make_group(self) -> None:
        try:
            self._client.xgroup_create(_STREAM, _GROUP, "0", mkstream=True)
        except redis.exceptions.ResponseError as exc:
            if not str(exc).startswith("BUSYGROUP"):  # else another consumer was first
                raise unavailable(exc) from exc
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc


def _purse(rules: Rules) -> tuple[int, int, int, int, int]:
    """Return what the scripts take of the rules: jobs a minute, micros an hour, micros for a job and for a thousand tokens,
    and the tokens of an answer to a job that does not say. Prices are rounded up, the cap down."""
    most = int(min(rules.cloud_money_per_hour, _MOST_MONEY) * _MICROS)
    return (rules.cloud_jobs_per_minute, most, _up(rules.cloud_price_per_job), _up(rules.cloud_price_per_1000_tokens),
            _USUAL_TOKENS)


def _up(money: float) -> int:
    # rounded: what is a whole number of micros is off by a hair as a float
    return math.ceil(round(min(money, _MOST_MONEY) * _MICROS, 3))
