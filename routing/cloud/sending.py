"""Sends jobs to the cloud: the ledger lets go of each first, then its errand goes out as one message.

Between the two a crash leaves a job that nobody in the cloud knows; it comes home when `cloud_wait_s` is over. So does one
of which nobody can say whether its message went out. What is known not to have gone out comes home at once.
"""

from dataclasses import dataclass, field

import msgspec

from app import logs
from app.job import State
from app.ledger import Claim, CloudLedger
from app.settings import Settings
from routing.cloud import broker, words
from routing.cloud.post import NotPosted, PerhapsPosted, Post, TooLargeToPost

_BATCH = 16  # jobs that the ledger lets go of at a time: so many at most are away in vain when MNS fails


@dataclass(slots=True)
class Sent:
    """What became of jobs that were to be sent, by their ids."""

    sent: list[str] = field(default_factory=list)
    perhaps: list[str] = field(default_factory=list)  # come home after `cloud_wait_s` where no cloud worker has them
    kept: dict[str, str] = field(default_factory=dict)  # cannot be sent, and why; they stay at home from now on
    failure: NotPosted | PerhapsPosted | None = None  # of MNS, for which the rest was not sent


class Sender:
    """Sends; for one thread. Raises `StoreUnavailable`."""

    def __init__(self, ledger: CloudLedger, post: Post, settings: Settings) -> None:
        self._ledger = ledger
        self._post = post
        self._settings = settings

    def send_waiting(self, most: int, *, decision: bytes) -> Sent:
        """Send those of the model service's jobs that would wait longest here, `most` at most; until there are no more, or
        MNS fails. `decision` says why, as JSON."""
        result, tried = Sent(), 0
        while tried < most and result.failure is None:
            claims = self._ledger.send(most=min(most - tried, _BATCH), decision=decision)
            if not claims:
                break
            tried += len(claims)
            self._send_all(claims, result)
        return result

    def send_job(self, job_id: str, *, decision: bytes) -> Sent | State | None:
        """Send one job; return the state that forbids it, or None for an unknown id. "queued" forbids it where the job
        waits for another, or for the time of its next attempt, or was sent before."""
        claim = self._ledger.send_job(job_id, decision=decision)
        if not isinstance(claim, Claim):
            return claim
        result = Sent()
        self._send_all([claim], result)
        return result

    def _send_all(self, claims: list[Claim], result: Sent) -> None:
        unsent = list(claims)
        while unsent and result.failure is None:
            self._send(unsent.pop(0), result)
        if unsent:
            self._ledger.recall(job_ids=[claim.id for claim in unsent])

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
            self._ledger.recall(job_ids=[claim.id])
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
