"""What cloud workers say: how it becomes words and messages, and what their courier does while MNS is away."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some

from app.settings import Settings
from ops.mns_server import LocalMns
from ops.waiting import wait_until
from routing.cloud import words
from routing.cloud.broker import REPORT_TASK
from routing.cloud.post import Post
from tests.cloud_desk import NAMES, QUICK, TICKET, Box, Clock, courier_to
from tests.cloud_worker import KEY, with_key
from workers.cloud import packing
from workers.cloud.courier import Courier
from workers.cloud.speaker import Speaker
from workers.cloud.voids import Voids
from workers.engine import Channel


@pytest.fixture
def box() -> Box:
    """Where reports go."""
    return Box()


@hypothesis_settings(max_examples=40)
@given(some.text(some.characters(codec="utf-8"), max_size=400), some.integers(min_value=20, max_value=200))
def test_a_text_is_split_into_pieces_that_fit_and_that_make_it_up(text: str, most: int) -> None:
    pieces = packing.split(text, most)

    assert "".join(pieces) == text
    assert pieces == [""] or all(pieces)
    assert all(len(json.dumps(piece)) <= most for piece in pieces)


def test_a_long_end_comes_in_numbered_parts_each_of_which_fits_a_message() -> None:
    outcome = words.Outcome(state="succeeded", result=json.dumps({"text": "长" * 60_000}, ensure_ascii=False))
    parts = packing.ends(outcome=outcome, **NAMES)

    assert len(parts) > 10
    assert max(map(packing.weight, parts)) <= packing.MOST
    assert [(part.number, part.of) for part in parts] == [(number, len(parts)) for number in range(len(parts))]
    assert msgspec.json.decode("".join(part.outcome for part in parts), type=words.Outcome) == outcome


@pytest.mark.parametrize("alphabet", [(0x20, 0x7E), (0x4E00, 0x9FFF), (0x1F300, 0x1F5FF), (1, 0xD7FF)],
                         ids=["ASCII", "Chinese", "emoji", "anything"])
def test_no_report_is_too_large_for_mns_however_little_its_text_can_be_compressed(
        alphabet: tuple[int, int], tmp_path: Path) -> None:
    dice = random.Random(1)
    text = "".join(chr(dice.randint(*alphabet)) for _ in range(40_000))
    said = [words.Said(**NAMES, start=0, voice="content", text=piece) for piece in packing.split(text)]
    ended = packing.ends(outcome=words.Outcome(state="succeeded", result=text), **NAMES)
    worker = words.Worker(name="cloud@x", processor="", slots=64, busy=64, engine="torch",
                          figures={f"figure number {number}": number for number in range(30)})
    with LocalMns.running([KEY]) as mns, Post(with_key(Settings(mns_url=mns.url), tmp_path)) as post:
        for group in packing.pack([*said, *ended], packing.weight):
            report = words.body("report", words.Report(worker=worker, words=group))
            post.send("tandem-results", REPORT_TASK, report, message_id="x" * 36)  # no store: it fits, or is refused
        assert mns.audit("tandem-results")["active"] >= 4


def test_words_are_packed_in_order_and_no_message_is_larger_than_asked() -> None:
    groups = packing.pack([5, 5, 1, 9, 30, 2, 2], lambda weighs: weighs, most=10)

    assert groups == [[5, 5], [1, 9], [30], [2, 2]]


def test_what_is_void_is_remembered_for_an_hour_and_no_longer() -> None:
    clock = Clock()
    voids = Voids(clock=clock)
    voids.add(["early"])
    clock.now_s += 3599.0
    voids.add(["late"])
    assert "early" in voids

    clock.now_s += 1.0
    assert "early" not in voids
    assert "late" in voids
    voids.add(["later"])
    assert list(voids._until_s) == ["late", "later"], "and is then forgotten"


def spoken(speaker: Speaker, *, beat: bool = False) -> list[words.Word]:
    """What a speaker says now."""
    return speaker.take(beat=beat)[0]


def test_tokens_become_as_few_pieces_as_may_be_and_each_says_how_much_came_before() -> None:
    speaker = Speaker(**NAMES, want=Mock())
    for text in "th", "ink":
        speaker.tell(Channel.REASONING, text)
    for text in "你好", "😀":
        speaker.tell(Channel.CONTENT, text)

    assert spoken(speaker) == [words.Began(**NAMES), words.Said(**NAMES, start=0, voice="reasoning", text="think"),
                               words.Said(**NAMES, start=5, voice="content", text="你好😀")]
    speaker.tell(Channel.CONTENT, "!")
    assert spoken(speaker, beat=True) == [words.Said(**NAMES, start=8, voice="content", text="!"), words.Alive(**NAMES)]
    assert spoken(speaker) == []


def test_what_a_run_told_last_is_not_said_beside_its_end_which_has_it_too() -> None:
    speaker = Speaker(**NAMES, want=Mock())
    speaker.tell(Channel.CONTENT, "the whole answer")
    end = words.Ended(**NAMES, outcome="{}")
    speaker.end([end])

    assert speaker.take(beat=True) == ([words.Began(**NAMES), end], True)


@pytest.mark.parametrize("text", ["half of a pair \ud83d", "x" * 262_145], ids=["not UTF-8", "more than is kept"])
def test_a_run_that_tells_what_cannot_be_sent_is_mute_until_its_end(text: str) -> None:
    speaker = Speaker(**NAMES, want=Mock())
    speaker.tell(Channel.CONTENT, "good")
    assert len(spoken(speaker)) == 2
    speaker.tell(Channel.CONTENT, text)
    assert spoken(speaker, beat=True) == [words.Alive(**NAMES)]
    speaker.tell(Channel.CONTENT, "good again, but home lacks what came before")

    assert spoken(speaker) == []
    end = words.GaveBack(**NAMES, because="drain")
    speaker.end([end])
    assert spoken(speaker) == [end]


def test_a_worker_that_runs_nothing_says_at_once_that_it_lives_and_then_with_each_beat(box: Box) -> None:
    with courier_to(box, replace(QUICK, cloud_beat_s=0.05)):
        wait_until(lambda: len(box.reports) >= 3, timeout_s=10, what="three beats")
    assert box.heard == []
    assert {report.worker.name for report in box.reports} == {"cloud@x"}


def test_what_all_runs_say_in_a_while_goes_in_one_report(box: Box) -> None:
    with courier_to(box, replace(QUICK, cloud_say_s=0.3)) as courier:
        wait_until(lambda: box.reports, timeout_s=10, what="the first beat")
        for number in range(3):
            speaker = courier.begin(NAMES["job"], TICKET, f"{TICKET}.{number}")
            for text in "abc":
                speaker.tell(Channel.CONTENT, text)
        wait_until(lambda: box.heard, timeout_s=10, what="words")

    said = [word.text for word in box.reports[1].words if isinstance(word, words.Said)]
    assert said == ["abc"] * 3


def test_each_run_is_said_to_live_with_each_beat(box: Box) -> None:
    with courier_to(box, replace(QUICK, cloud_beat_s=0.05)) as courier:
        courier.begin(**NAMES)
        wait_until(lambda: box.heard.count(words.Alive(**NAMES)) >= 3, timeout_s=10, what="three beats of the run")
    assert box.heard[0] == words.Began(**NAMES)


def test_while_mns_is_away_nothing_is_lost_and_the_order_is_kept(box: Box) -> None:
    with courier_to(box) as courier:
        speaker = courier.begin(**NAMES)
        box.came(words.Began)
        box.away = True
        for text in "one ", "two ":
            speaker.tell(Channel.CONTENT, text)
            box.waits()
        speaker.end(packing.ends(outcome=words.Outcome(state="succeeded"), **NAMES))
        assert not speaker.delivered.is_set()
        box.away = False

        assert speaker.delivered.wait(10)
    said = "".join(word.text for word in box.heard if isinstance(word, words.Said))
    assert said in ("one ", "one two "), "what was gathered before the end is said"
    assert isinstance(box.heard[-1], words.Ended)


def test_a_report_whose_answer_was_lost_is_sent_again_word_by_word_the_same(box: Box) -> None:
    with courier_to(box) as courier:
        wait_until(lambda: box.reports, timeout_s=10, what="the first beat")
        box.mute = True
        speaker = courier.begin(**NAMES)
        speaker.tell(Channel.CONTENT, "once")
        wait_until(lambda: len(box.heard) >= 2, timeout_s=10, what="the report")
        speaker.tell(Channel.CONTENT, " upon a time")
        box.mute = False
        wait_until(lambda: "".join(w.text for w in box.heard if isinstance(w, words.Said)).endswith("time"), timeout_s=10,
                   what="the rest")

    reports = [report.words for report in box.reports if report.words]
    assert reports[0] == reports[1]
    assert words.Said(**NAMES, start=4, voice="content", text=" upon a time") in reports[2]


def test_a_report_that_proves_too_large_is_sent_word_by_word_and_a_word_that_is_blocks_no_other(box: Box) -> None:
    box.most = 1
    with courier_to(box) as courier:
        speaker = courier.begin(**NAMES)
        speaker.tell(Channel.CONTENT, "piece")
        wait_until(lambda: len(box.heard) == 2, timeout_s=10, what="both words")
        assert not speaker.lost

        box.most = 0
        speaker.end([words.GaveBack(**NAMES, because="drain")])
        assert speaker.delivered.wait(10)
        assert speaker.lost, "its thread is not kept waiting"
        box.most = None
        courier.begin(NAMES["job"], TICKET, f"{TICKET}.other")
        wait_until(lambda: len(box.heard) == 3, timeout_s=10, what="another run's word")


def test_of_a_run_that_nobody_wants_to_hear_of_nothing_more_is_sent(box: Box) -> None:
    with courier_to(box) as courier:
        wait_until(lambda: box.reports, timeout_s=10, what="the first beat")
        box.away = True
        speaker = courier.begin(**NAMES)
        speaker.end([words.GaveBack(**NAMES, because="drain")])
        box.waits()
        courier.drop(speaker)
        box.away = False
        courier.begin(NAMES["job"], TICKET, f"{TICKET}.other")
        wait_until(lambda: box.heard, timeout_s=10, what="a word")
    assert {word.run for word in box.heard} == {f"{TICKET}.other"}


def test_a_gathering_of_many_threads_loses_no_piece(box: Box) -> None:
    def speak(courier: Courier, number: int) -> None:
        speaker = courier.begin(NAMES["job"], TICKET, f"{TICKET}.{number}")
        for piece in range(500):
            speaker.tell(Channel.CONTENT, f"{piece} ")
        done.wait(10)
        speaker.end([words.GaveBack(job=NAMES["job"], ticket=TICKET, run=f"{TICKET}.{number}", because="drain")])
        assert speaker.delivered.wait(10)

    whole = "".join(f"{piece} " for piece in range(500))

    def texts() -> dict[str, str]:
        found: dict[str, str] = {}
        for word in box.heard:
            if isinstance(word, words.Said):
                assert len(found.setdefault(word.run, "")) == word.start
                found[word.run] += word.text
        return found

    done = threading.Event()
    with courier_to(box, replace(QUICK, cloud_say_s=0.001)) as courier, ThreadPoolExecutor(4) as threads:
        speaking = [threads.submit(speak, courier, number) for number in range(4)]
        wait_until(lambda: sorted(texts().values()) == [whole] * 4, timeout_s=10, what="all pieces of all runs")
        done.set()
        for each in speaking:
            each.result(10)
