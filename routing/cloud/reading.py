"""Reads the messages of cloud workers: what is well formed becomes a report, what a newer version says is passed over, and
what cannot be meant is refused, word by word, so that one bad word does not silence the others."""

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
from kombu import Message

from app import logs
from app.job import is_job_id
from app.ledger import Voice
from routing.cloud import words
from routing.cloud.broker import REPORT_TASK

_TICKET = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)
_WORKER = re.compile(r"[\w.@:-]{1,200}", re.ASCII)  # a Celery node name
_SPEAKING = (Voice.REASONING.value, Voice.CONTENT.value)
_LONGEST_WAIT_S = 3600.0  # that a worker may ask for before a job's next attempt
_MOST_PARTS = 10_000
_MOST_SAID = 2**31  # characters of a run: beyond what a place in a stream of Redis, or a number in Lua, can say
_KNOWN = {word.__struct_config__.tag for word in (words.Began, words.Alive, words.Said, words.Ended, words.GaveBack)}


class MalformedReport(Exception):
    """What came is no report, or has words that cannot be meant."""


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A report whose words are not yet read."""

    worker: words.Worker
    words: list[dict[str, Any]] = []


def read(message: Message) -> tuple[words.Report, list[str]]:
    """Return the report that a message holds, and what is wrong with those of its words that are left out. Raises
    `MalformedReport` where it holds none."""
    task = (message.headers or {}).get("task")
    if task != REPORT_TASK:
        raise MalformedReport(f"a message of the task {task!r} came where only {REPORT_TASK} is expected")
    try:
        body = message.decode()
        envelope = msgspec.convert(body[1]["report"], _Envelope)
    except Exception as exc:  # kombu's decoders raise what they like, and all of it says that it is malformed
        raise MalformedReport(f"the report cannot be read: {type(exc).__name__}: {exc}") from exc
    if not _WORKER.fullmatch(envelope.worker.name):
        raise MalformedReport(f"{envelope.worker.name[:80]!r} is not the name of a worker")
    try:
        msgspec.json.encode(envelope.worker)
    except UnicodeEncodeError as exc:
        raise MalformedReport(f"what {envelope.worker.name} says of itself cannot be written: {exc.reason}") from exc
    found: list[words.Word] = []
    faults: list[str] = []
    for told in envelope.words:
        _read_word(told, envelope.worker.name, found, faults)
    return words.Report(worker=envelope.worker, words=found), faults


def _read_word(told: dict[str, Any], worker: str, found: list[words.Word], faults: list[str]) -> None:
    name = told.get("word")
    if not isinstance(name, str) or name not in _KNOWN:
        logs.event("cloud_word_unknown", worker=worker, word=str(name)[:80])
        return
    try:
        word = msgspec.convert(told, words.Word)
    except msgspec.ValidationError as exc:
        faults.append(f"the word '{name}' cannot be read: {exc}")
        return
    if fault := next((what for wrong, what in _FAULTS if wrong(word)), None):
        faults.append(f"the word '{name}' of job {word.job[:80]}: {fault}")  # without its run, which names the ticket
    else:
        found.append(word)


#: What a word may be well formed and still not mean.
_FAULTS: tuple[tuple[Callable[[words.Word], bool], str], ...] = (
    (lambda word: not _is_text(word), "it holds half of a surrogate pair, which no text does"),
    (lambda word: not is_job_id(word.job), "its job is not the id of one"),
    (lambda word: not _TICKET.fullmatch(word.ticket), "its ticket is none"),
    (lambda word: not word.run.startswith(f"{word.ticket}.") or not _TICKET.fullmatch(word.run[len(word.ticket) + 1:]),
     "its run is not one of its ticket"),
    (lambda word: isinstance(word, words.Said) and word.voice not in _SPEAKING, "it says something in no voice"),
    (lambda word: isinstance(word, words.Said) and word.start < 0, "it says something before its beginning"),
    (lambda word: isinstance(word, words.Said) and word.start > _MOST_SAID, "it says more than any run can"),
    (lambda word: isinstance(word, words.Ended) and not 0 <= word.number < word.of <= _MOST_PARTS,
     "its part is not one of the whole"),
    (lambda word: isinstance(word, words.GaveBack) and word.because not in ("error", "drain"),
     "it gives the job back for neither an error nor a drain"),
    (lambda word: isinstance(word, words.GaveBack)
     and not (math.isfinite(word.wait_s) and 0 <= word.wait_s <= _LONGEST_WAIT_S), "the wait is none, or too long"))


def _is_text(word: words.Word) -> bool:
    """Whether all that a word holds can be written as UTF-8. JSON can name half of a surrogate pair."""
    try:
        "".join(value for value in msgspec.structs.astuple(word) if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True
