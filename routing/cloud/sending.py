"""Sends jobs to the cloud: the ledger lets go of each first, then its errand goes out as one message.

Between the two a crash leaves a job that nobody in the cloud knows; it comes home when `cloud_wait_s` is over. So does one
of which nobody can say whether its message went out. What is known not to have gone out comes home at once.

The ledger lets no more go than the rules' caps allow, whoever asks for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from app import logs
from app.job import State
from app.ledger import Cap, Claim, CloudLedger
from app.routing_rules import Rules
from app.settings import Settings
from routing.cloud import broker, words
from routing.cloud.post import NotPosted, PerhapsPosted, Post, TooLargeToPost

_BATCH = 16  # jobs that the ledger lets go of at a time: so many at most are away in vain when MNS fails

_NOT_POSTED = b'{"rule":"not-posted","detail":"its message to the cloud did not go out"}'


@dataclass(slots=True)
class Sent:
    """What became of jobs that were to be sent, by their ids."""

    sent: list[str] = field(default_factory=list)
    perhaps: list[str] = field(default_factory=list)  # come home after `cloud_wait_s` where no cloud worker has them
    kept: dict[str, str] = field(default_factory=dict)  # cannot be sent, and why; they stay at home from now on
    failure: NotPosted | PerhapsPosted | None = None  # of MNS, for which the rest was not sent
    cap: Cap | None = None  # that is reached
    refused: int = 0  # jobs asked for that were not looked for, because of the cap


class Sender:
    """Sends; for one thread. Raises `StoreUnavailable`."""

    def __init__(self, ledger: CloudLedger, post: Post, settings: Settings) -> None:
        self._ledger = ledger
        self._post = post
        self._settings = settings

    def send_waiting(self, most: int, *, decision: bytes, rules: Rules, go_on: Callable[[], bool] = lambda: True) -> Sent:
        """Send those of the model service's jobs that would wait longest here, `most` at most; until there are no more, or
        a cap of the rules is reached, or MNS fails, or `go_on`, which is asked before each message, says no. `decision`
        says why, as JSON."""
        result, tried = Sent(), 0
        while tried < most and result.failure is None and go_on():
            claims, result.cap = self._ledger.send(most=min(most - tried, _BATCH), decision=decision, rules=rules)
            tried += len(claims)
            self._send_all(claims, result, go_on)
            if result.cap:
                result.refused = most - tried
            if result.cap or not claims:
                break
        return result

    def send_job(self, job_id: str, *, decision: bytes, rules: Rules) -> Sent | Cap | State | None:
        """Send one job; return the cap that is reached, or the state that forbids it, or None for an unknown id. "queued"
        forbids it where the job waits for another, or for the time of its next attempt, or was sent before."""
        claim = self._ledger.send_job(job_id, decision=decision, rules=rules)
        if not isinstance(claim, Claim):
            return claim
        result = Sent()
        self._send_all([claim], result, lambda: True)
        return result

    def _send_all(self, claims: list[Claim], result: Sent, go_on: Callable[[], bool]) -> None:
        unsent, before = list(claims), len(result.sent)
        while unsent and result.failure is None and go_on():
            self._send(unsent.pop(0), result)
        if unsent:
            self._ledger.take_back(unsent, decision=_NOT_POSTED)
        taken, failed = len(result.sent) - before, int(result.failure is not None)
        if taken or failed:
            self._ledger.posted(taken=taken, failed=failed)

    def _send(self, claim: Claim, result: Sent) -> None:
        errand = words.Errand(job=claim.id, ticket=claim.owner, task=claim.task, input=claim.input.decode(),
                              errors=claim.errors, deadline_ms=claim.deadline_ms, trace=claim.trace)
        try:
            self._post.send(broker.jobs_queue(self._settings), broker.RUN_TASK, words.body("errand", errand),
                            message_id=claim.id)
        except TooLargeToPost as exc:
            self._ledger.keep(claim.id, decision=msgspec.json.encode({"rule": "too-large-for-cloud", "detail": str(exc)}))
            result.kept[claim.id] = str(exc)
        except NotPosted as exc:
            self._ledger.take_back([claim], decision=_NOT_POSTED)
            result.failure = exc
        except PerhapsPosted as exc:
            result.perhaps.append(claim.id)
            result.failure = exc
        else:
            result.sent.append(claim.id)
            logs.event("job_sent", job=claim.id, attempt=claim.attempt)
            return
        logs.event("job_not_sent", job=claim.id, attempt=claim.attempt,
                   perhaps=claim.id in result.perhaps, why=str(result.failure or result.kept[claim.id]))
