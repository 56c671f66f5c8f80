"""Titles of conversations: the model is asked for one after the first answer, in the batch lane, so that nobody waits.

A title that the caller gave in the meantime stays, and a conversation that was deleted stays deleted. Where what the model
wrote is no title, the conversation is named by the first words of its question.
"""

import re
import threading
import uuid

import msgspec

from app import logs
from app.conversations import Conversation, Conversations
from app.errors import StoreUnavailable
from app.inputs import Message, ModelInput
from app.job import Lane, NewJob, Service
from app.turns import Turn
from workers import resources
from workers.attempt import Answer, Attempt, SlotsTaken
from workers.tasks import job_task
from workers.tasks.part import part_ending_with, through_the_model

_WORDS = 6
_LONGEST = 60  # characters
_AROUND = " \t#*_`\"'«»“”\u2018\u2019"  # what models put around a title
_AFTER = " .,:;"
_READ = 2000  # characters of the question that the model is shown: a title needs no more
_MOST_TOKENS = 512  # some models think before they answer
_DEADLINE_S = 600.0  # nobody looks for the title of a conversation that long

#: The instruction follows the question, as small models otherwise answer that. One that repeats the instruction is stopped.
_INSTRUCTION = "Write a title for the text above"
_WHOLE_INSTRUCTION = f"{_INSTRUCTION}: at most {_WORDS} words, in its language, and nothing else. Do not answer it."

#: Titles wait in the batch lane for the model, so a worker makes one at a time and keeps its slots for those who talk.
_one_at_a_time = threading.Semaphore(1)


class TitleInput(msgspec.Struct, frozen=True):
    """What a title is made for, and of. The uid tells the conversation from a later one of its name."""

    conversation: str
    uid: str
    question: str


def ask_for_title(attempt: Attempt, conversation: Conversation, turn: Turn) -> None:
    """Submit the job that makes a title; another attempt of the chat submits the same again."""
    claim = attempt.claim
    wanted = TitleInput(conversation.name, conversation.uid, turn.user[:_READ])
    job = NewJob(id=str(uuid.uuid5(uuid.UUID(claim.id), "chat.title")), service=Service.CHAT, task="chat.title",
                 tenant=claim.tenant, parent=claim.id, input=msgspec.json.encode(wanted), lane=Lane.BATCH,
                 trace=claim.trace, deadline_s=_DEADLINE_S)
    try:
        attempt.node.ledger.submit(job)
    except StoreUnavailable as exc:  # the answer is worth more than its title
        logs.event("title_not_asked_for", job=claim.id, attempt=claim.attempt, why=str(exc))


@job_task("chat.title")
def title(attempt: Attempt) -> Answer:
    """Make a title. Result: `title`, and whether it was `given`: not where the conversation has one, or is gone."""
    wanted = msgspec.json.decode(attempt.claim.input, type=TitleInput)
    if not _one_at_a_time.acquire(blocking=False):
        raise SlotsTaken("this worker is making the title of another conversation")
    slots = resources.held().chat_slots
    try:
        if not slots.acquire(blocking=False):
            raise SlotsTaken("the other slots of this worker are kept for the model's part of chats")
        try:
            return _entitled(attempt, wanted)
        finally:
            slots.release()
    finally:
        _one_at_a_time.release()


def _entitled(attempt: Attempt, wanted: TitleInput) -> Answer:
    asked = Message(role="user", content=f"{wanted.question}\n\n{_WHOLE_INSTRUCTION}")
    with part_ending_with(attempt):
        part = through_the_model(attempt, ModelInput(messages=[asked], max_tokens=_MOST_TOKENS, temperature=0,
                                                     stop=[_INSTRUCTION]))
    text = title_of(msgspec.json.decode(part.result or b"{}")["text"], question=wanted.question)
    conversations = Conversations(resources.held().client)
    given = bool(text) and conversations.entitle(attempt.claim.tenant, wanted.conversation, wanted.uid, text)
    return Answer(result={"title": text, "given": given}, usage=msgspec.json.decode(part.usage) if part.usage else None)


def title_of(written: str, *, question: str) -> str:
    """Return what a model wrote as a title: its first line, without quotes and marks around it. Where that is no title,
    return the first words of the question; empty where that has none."""
    first = next((line for line in written.splitlines() if line.strip()), "")
    bare = re.sub(r"^title\s*:", "", first.strip(_AROUND), flags=re.IGNORECASE)
    text = " ".join(bare.strip(_AROUND).split()).rstrip(_AFTER)
    usable = text == _cut(text) and not _of_the_instruction(text) and not _repeats_itself(text)
    return text if text and usable else _cut(question.strip(_AROUND)).rstrip(_AFTER + _AROUND)


def _cut(text: str) -> str:
    """Return the first words of a text, as many as a title may have. A first word that is longer than a title is cut."""
    words = text.split()[:_WORDS]
    while len(words) > 1 and len(" ".join(words)) > _LONGEST:
        words.pop()
    return " ".join(words)[:_LONGEST]


def _of_the_instruction(text: str) -> bool:
    """Tell whether most of the telling words (not "in", "the", "its") are the instruction's: small models repeat it."""
    words = _telling_words(text)
    return 2 * sum(word in _telling_words(_WHOLE_INSTRUCTION) for word in words) > len(words)


def _telling_words(text: str) -> list[str]:
    return re.findall(r"\d+|\w{4,}", text.casefold())


def _repeats_itself(text: str) -> bool:
    """Tell whether at most half of three words or more differ."""
    words = re.findall(r"\w+", text.casefold())
    return len(words) > 2 and 2 * len(set(words)) <= len(words)
