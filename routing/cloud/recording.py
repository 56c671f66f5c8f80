"""Writes what cloud workers report into the ledger, word by word.

A run that is heard of for the first time begins there, if its ticket is good; then its pieces are said, its lease renewed,
its end recorded. What the ledger refuses is void, and goes on the ledger's list of stops, so that its worker gives it up.
Words come twice, late and in any order, and a report that was recorded in part, because Redis went away, is recorded again
from its beginning: each step is one that the ledger takes twice as once.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from app import logs
from app.job import State
from app.ledger import Claim, CloudLedger, CloudSaying, Ending, Ledger, Place, Settled, Voice
from routing.cloud import words
from routing.cloud.reading import MalformedReport

_MOST_KEPT = 4096  # runs of which something is remembered: more than a fleet has slots
_AGAIN_S = 10.0  # a run that is still heard of so long after it was called void is called so again

Kept = TypeVar("Kept")

#: Is told of each answer that was recorded: the claim, the result and the usage, as JSON.
Recorded = Callable[[Claim, bytes, bytes], None]


class Recorder:
    """Records reports; for one thread. Raises `StoreUnavailable`."""

    def __init__(self, ledger: Ledger, cloud: CloudLedger, *, recorded: Recorded = lambda *_: None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._cloud = cloud
        self._recorded = recorded
        self._clock = clock
        self._claims: OrderedDict[str, Claim] = OrderedDict()  # run -> its claim, without the input
        self._ended: OrderedDict[str, str] = OrderedDict()  # runs that have come to an end -> which
        self._called_void: OrderedDict[str, float] = OrderedDict()  # run -> when

    def record(self, report: words.Report) -> None:
        """Record all words of a report. Raises `MalformedReport` for an outcome that is none, after all the others."""
        place = Place(worker=report.worker.name, server="cloud", processor=report.worker.processor)
        heard = [(word, claim) for word in report.words if (claim := self._claim(word, place))]
        self._say(heard, place)
        self._renew(heard, place)
        faults = [fault for word, claim in heard if (fault := self._end(word, claim))]
        if faults:
            raise MalformedReport("; ".join(faults))

    def _claim(self, word: words.Word, place: Place) -> Claim | None:
        """Return the claim of the run that a word is of, which may begin with it; None for a run that is void or over."""
        if claim := self._claims.get(word.run):
            return claim
        if word.run in self._ended:
            return None
        claim = self._cloud.begin(word.job, word.ticket, place, run=word.run)
        if claim is None:
            self._refuse(word, place)
            return None
        claim = replace(claim, input=b"")  # thousands may be remembered
        _keep(self._claims, word.run, claim)
        return claim

    def _refuse(self, word: words.Word, place: Place) -> None:
        if isinstance(word, words.Ended | words.GaveBack):  # nothing is left to be stopped
            logs.event("cloud_end_refused", job=word.job, run=words.short(word.run), worker=place.worker)
            _keep(self._ended, word.run, "refused")
        else:
            self._call_void([(word.job, word.run)], place)

    def _call_void(self, runs: Sequence[tuple[str, str]], place: Place) -> None:
        """Have the worker told that runs, each by its job, are void; not with each word that it sends meanwhile."""
        old_s = self._clock() - _AGAIN_S
        fresh = {run: job for job, run in runs if self._called_void.get(run, old_s) <= old_s}
        if not fresh:
            return
        self._cloud.void([(job, run, place.worker) for run, job in fresh.items()])
        for run, job in fresh.items():
            _keep(self._called_void, run, self._clock())
            self._claims.pop(run, None)
            logs.event("cloud_run_void", job=job, run=words.short(run), worker=place.worker)

    def _say(self, heard: Sequence[tuple[words.Word, Claim]], place: Place) -> None:
        sayings = [CloudSaying(claim=claim, start=word.start, voice=Voice(word.voice), text=word.text)
                   for word, claim in heard if isinstance(word, words.Said) and word.text]
        if sayings:
            held = self._cloud.say(sayings)
            self._call_void([(saying.claim.id, saying.claim.owner)
                             for saying, ours in zip(sayings, held, strict=True) if not ours], place)

    def _renew(self, heard: Sequence[tuple[words.Word, Claim]], place: Place) -> None:
        over = {word.run for word, _ in heard if isinstance(word, words.GaveBack)
                or (isinstance(word, words.Ended) and word.of == 1)}
        claims = list({claim.owner: claim for _, claim in heard if claim.owner not in over}.values())
        if claims:
            held = self._cloud.renew(claims)
            self._call_void([(claim.id, claim.owner) for claim, ours in zip(claims, held, strict=True) if not ours], place)

    def _end(self, word: words.Word, claim: Claim) -> str:
        """Record an end, if the word is one; return what is wrong with it, nothing where all is well."""
        if isinstance(word, words.GaveBack):
            self._give_back(word, claim)
        elif isinstance(word, words.Ended):
            whole = word.outcome if word.of == 1 else self._cloud.part(claim, word.number, word.of, word.outcome)
            if whole is not None:
                return self._settle(claim, whole)
        return ""

    def _settle(self, claim: Claim, text: str) -> str:
        try:
            outcome = msgspec.json.decode(text, type=words.Outcome)
            state = State(outcome.state)
            ending = Ending(result=_json(outcome.result), error=_json(outcome.error), usage=_json(outcome.usage))
        except (msgspec.MsgspecError, ValueError) as exc:
            return f"the outcome of run {words.short(claim.owner)} of job {claim.id} cannot be read: {exc}"
        if state not in (State.SUCCEEDED, State.FAILED):
            return f"the outcome of run {words.short(claim.owner)} of job {claim.id} is '{state}', not succeeded or failed"
        settled = self._ledger.settle(claim, state, ending)
        self._over(claim, state if settled is Settled.RECORDED else settled)
        if settled is Settled.RECORDED and state is State.SUCCEEDED:
            self._recorded(claim, ending.result, ending.usage)
        return ""

    def _give_back(self, word: words.GaveBack, claim: Claim) -> None:
        settled = self._ledger.release(claim, because=word.because, wait_s=word.wait_s)
        self._over(claim, settled, why=word.why, again_in_s=word.wait_s)

    def _over(self, claim: Claim, what: str, **more: Any) -> None:
        level = logging.DEBUG if what == State.SUCCEEDED else logging.INFO  # the ordinary case is in the ledger
        logs.event(f"job_{what}", level=level, job=claim.id, attempt=claim.attempt, task=claim.task, route="cloud", **more)
        self._claims.pop(claim.owner, None)
        _keep(self._ended, claim.owner, what)


def _json(text: str) -> bytes:
    """Return a member of an outcome as the ledger keeps it. Raises `msgspec.DecodeError` where it is not JSON."""
    if text:
        msgspec.json.decode(text)
    return text.encode()


def _keep(kept: OrderedDict[str, Kept], key: str, value: Kept) -> None:
    """Remember something, and forget the oldest where that is too much."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _MOST_KEPT:
        kept.popitem(last=False)
