"""However a text was cut into pieces, and wherever a reader left off, he is told exactly what he has not had."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.job import Job, Lane, Route, Service, State
from app.ledger import Piece, Said, Voice
from app.transcript import Event, Mark, Transcript, last_mark, merged

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def a_job(state: State, service: Service = Service.MODEL, attempt: int = 1, **result: str) -> Job:
    return Job(id="j", service=service, task=f"{service}.run", tenant="ann", state=state, lane=Lane.STANDARD,
               route=Route.LOCAL, attempt=attempt, created_ms=0, position=3, eta_s=1.5,
               result=msgspec.json.encode(result) if result else None)


def pieces_of(reasoning: str, content: str, cuts: list[int], attempt: int = 1) -> list[Piece]:
    """Cut a text into pieces after so many characters each, what remains in one."""
    pieces, position = [Piece(attempt, 0, Voice.STARTED, "")], 0
    for voice, text in ((Voice.REASONING, reasoning), (Voice.CONTENT, content)):
        while text:
            size = cuts.pop() if cuts else len(text)
            part, text = text[:size], text[size:]
            position += len(part)
            pieces.append(Piece(attempt, position, voice, part))
    return pieces


def read(events: list[Event]) -> tuple[str, str]:
    """The reasoning and the content that tokens give."""
    tokens: list[dict[str, Any]] = [event.data for event in events if event.name == "token"]  # type: ignore[misc]
    return ("".join(token.get("reasoning_content", "") for token in tokens),
            "".join(token.get("text", "") for token in tokens))


def told(transcript: Transcript, pieces: list[Piece]) -> list[Event]:
    return [event for piece in pieces for event in transcript.heard(piece)]


cut = st.lists(st.integers(1, 6), max_size=8)


@given(reasoning=texts, content=texts, cuts=cut, heard=st.integers(0, 20))
def test_a_reader_who_hears_some_pieces_and_then_the_end_has_the_result_and_nothing_twice(
        reasoning: str, content: str, cuts: list[int], heard: int) -> None:
    transcript, job = Transcript(), a_job(State.SUCCEEDED, reasoning_content=reasoning, text=content)
    pieces = pieces_of(reasoning, content, cuts)[:heard]

    events = [*transcript.queued(job), *told(transcript, pieces), *transcript.end(job, Said(1, 0, []))]

    assert read(events) == (reasoning, content)
    assert [event.name for event in events if event.name != "token"] == ["queued", "started", "succeeded"]
    marks = [event.mark for event in events]
    assert marks == sorted(set(marks)), "the ids grow"
    assert marks[-1] == Mark(1, len(reasoning + content) + 1)


@given(reasoning=texts, content=texts, cuts=cut, others=cut, place=st.integers(0, 60))
def test_a_reader_who_goes_on_from_any_event_gets_the_rest_however_the_text_is_cut_then(
        reasoning: str, content: str, cuts: list[int], others: list[int], place: int) -> None:
    job = a_job(State.SUCCEEDED, reasoning_content=reasoning, text=content)
    before = Transcript()
    story = [*before.queued(job), *told(before, pieces_of(reasoning, content, cuts)), *before.end(job, Said(1, 0, []))]
    had = story[:place % len(story)]

    after = Transcript(had[-1].mark if had else None)
    rest = [*after.queued(job), *told(after, pieces_of(reasoning, content, others)), *after.end(job, Said(1, 0, []))]

    assert tuple("".join(both) for both in zip(read(had), read(rest), strict=True)) == (reasoning, content)
    assert ([event.name for event in [*had, *rest] if event.name != "token"]
            == ["queued", "started", "succeeded"])


@given(content=texts.filter(bool), cuts=cut, times=st.lists(st.integers(0, 8), max_size=20))
def test_a_piece_that_comes_again_or_was_told_in_part_is_told_once(
        content: str, cuts: list[int], times: list[int]) -> None:
    transcript, pieces = Transcript(), pieces_of("", content, cuts)
    events = []
    for piece in pieces:
        events += transcript.heard(piece)
        for again in times:
            events += transcript.heard(pieces[again % (pieces.index(piece) + 1)])

    assert read(events) == ("", content)


@given(reasoning=texts, content=texts, cuts=cut, lost=st.integers(0, 9))
def test_neighbouring_pieces_of_one_voice_are_one_and_what_is_missing_between_two_stays_missing(
        reasoning: str, content: str, cuts: list[int], lost: int) -> None:
    pieces = pieces_of(reasoning, content, cuts)

    assert merged(pieces) == pieces_of(reasoning, content, [])
    del pieces[lost % len(pieces)]
    one_by_one, at_once = Transcript(), Transcript()
    assert read(told(one_by_one, pieces)) == read(told(at_once, merged(pieces)))
    assert one_by_one.mark == at_once.mark


def test_pieces_of_two_attempts_are_not_made_one() -> None:
    pieces = [Piece(1, 2, Voice.CONTENT, "ab"), Piece(2, 4, Voice.CONTENT, "cd")]

    assert merged(pieces) == pieces


@pytest.mark.parametrize(("mark", "said", "state", "beyond"), [
    ("1-5", Said(1, 5, []), State.RUNNING, False), ("1-6", Said(1, 5, []), State.RUNNING, True),
    ("1-6", Said(1, 5, []), State.FAILED, False), ("1-7", Said(1, 5, []), State.FAILED, True),
    ("1-3", Said(1, 0, []), State.SUCCEEDED, False), ("1-9", Said(1, 9, []), State.SUCCEEDED, False),
    ("1-4", Said(1, 0, []), State.SUCCEEDED, True),
    ("2-0", Said(1, 5, []), State.RUNNING, True), ("1-9", Said(2, 5, []), State.RUNNING, False),
    ("0-1", Said(0, 0, []), State.QUEUED, False), ("0-2", Said(0, 0, []), State.QUEUED, True),
    ("0-2", Said(0, 0, []), State.EXPIRED, False), ("0-9", Said(1, 0, []), State.RUNNING, False)])
def test_an_id_is_beyond_the_job_when_no_event_of_what_is_known_has_it(
        mark: str, said: Said, state: State, beyond: bool) -> None:
    job = a_job(state, text="ab") if state is State.SUCCEEDED else a_job(state)

    assert Transcript(Mark.parse(mark)).is_beyond(job, said) is beyond


@pytest.mark.parametrize(("mark", "names"), [("2-7", ["restarted"]), ("1-99", ["restarted"]), ("0-9", ["started"])])
def test_whoever_starts_over_is_told_so_now_or_when_the_next_attempt_begins(mark: str, names: list[str]) -> None:
    now, later = Transcript(Mark.parse(mark)), Transcript(Mark.parse(mark))

    assert [(event.name, str(event.mark)) for event in now.start_over(1)] == [(names[0], "1-0")]
    assert later.start_over(0) == []
    assert [event.name for event in [*later.queued(a_job(State.QUEUED)), *later.begun(1), *later.begun(2)]] == [
        *names, "restarted"]


def test_a_piece_before_which_another_is_missing_is_not_told() -> None:
    transcript = Transcript()
    first, second, third = pieces_of("", "abcdef", [2, 2])[1:]
    transcript.heard(first)

    assert not transcript.misses(second)
    assert transcript.misses(third)
    assert transcript.heard(third) == []
    assert read(told(transcript, [second, third])) == ("", "cdef")


def test_a_reader_of_an_earlier_attempt_is_told_to_start_anew() -> None:
    transcript = Transcript()
    told(transcript, pieces_of("", "lost", []))
    events = told(transcript, pieces_of("", "found", [2], attempt=2))

    assert [(event.name, str(event.mark)) for event in events] == [
        ("restarted", "2-0"), ("token", "2-2"), ("token", "2-5")]
    assert events[0].data == {"attempt": 2}
    assert transcript.heard(Piece(1, 9, Voice.CONTENT, "late")) == [], "the attempt before is void"
    assert not transcript.misses(Piece(1, 20, Voice.CONTENT, "late"))


@pytest.mark.parametrize(("mark", "name"), [(None, "started"), (Mark(0, 1), "started"), (Mark(1, 0), "restarted"),
                                            (Mark(1, 7), "restarted"), (Mark(2, 7), None)])
def test_a_later_attempt_is_a_restart_to_those_only_who_know_of_one_before(mark: Mark | None, name: str | None) -> None:
    assert [event.name for event in Transcript(mark).begun(2)] == ([name] if name else [])


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_job_that_ended_without_a_result_ends_after_what_it_said(state: State) -> None:
    transcript, job = Transcript(), a_job(state)
    told(transcript, pieces_of("", "half", []))
    (event,) = transcript.end(job, Said(1, 4, []))

    assert (event.name, str(event.mark), event.data) == (state.value, "1-5", job)


def test_a_job_that_never_started_ends_right_after_it_was_queued() -> None:
    transcript, job = Transcript(), a_job(State.EXPIRED, attempt=0)
    events = transcript.end(job, Said(0, 0, []))

    assert [(event.name, str(event.mark)) for event in events] == [("queued", "0-1"), ("expired", "0-2")]
    assert events[0].data == {"position": 3, "eta_s": 1.5}


def test_a_job_that_says_nothing_ends_after_its_start_whatever_its_result_is() -> None:
    job = a_job(State.SUCCEEDED, Service.CACHE, text="a value called text")
    events = Transcript().end(job, Said(1, 0, []))

    assert [str(event.mark) for event in events] == ["0-1", "1-0", "1-1"]


def test_an_engine_that_told_more_than_it_answered_does_not_keep_the_end_from_its_reader() -> None:
    transcript, job = Transcript(), a_job(State.SUCCEEDED, text="ab")
    told(transcript, pieces_of("", "abcdef", []))

    assert [event.name for event in transcript.end(job, Said(1, 6, []))] == ["succeeded"]


@pytest.mark.parametrize(("given_mark", "all_of_it"), [("1-3", True), ("1-9", True), ("1-2", False), ("0-1", False),
                                                         ("0-2", True)])
def test_whoever_had_the_last_event_had_all(given_mark: str, all_of_it: bool) -> None:
    job = a_job(State.SUCCEEDED, text="ab")

    assert Transcript(Mark.parse(given_mark)).had_all(job, Said(1, 2, [])) is all_of_it
    assert Transcript(Mark.parse(given_mark)).had_all(a_job(State.RUNNING), Said(1, 2, [])) is False
    assert str(last_mark(job, Said(1, 2, []))) == "1-3"


@given(attempt=st.integers(0, 10**9 - 1), position=st.integers(0, 10**15 - 1))
def test_an_id_is_read_as_it_was_written(attempt: int, position: int) -> None:
    assert Mark.parse(str(Mark(attempt, position))) == Mark(attempt, position)


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "-1", "1-2-3", "1 - 2", "a-b", "1-2\n",
                                  "\N{ARABIC-INDIC DIGIT ONE}-1", "1-" + "9" * 99, "1.0-2", "+1-2"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the id of an event"):
        Mark.parse(text)
