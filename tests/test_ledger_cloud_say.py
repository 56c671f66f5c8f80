"""What runs in the cloud say is told here in order, once, to those who read the job, however it arrives; ends come in
parts; and what is void is told to the cloud."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import hypothesis
import msgspec
import pytest
import redis
from hypothesis import strategies as st

from app.announcements import Announcements
from app.errors import InvalidInput
from app.job import State
from app.ledger import Claim, CloudLedger, CloudSaying, Ending, Ledger, Piece, Said, Stop, Voice, new_owner
from app.settings import Settings
from app.streams import Streams
from ops.waiting import wait_until
from tests.follower import SOON_S, Follower, say
from tests.ledger_cloud import RULES, begun_job, sent_job
from tests.model_cloud import OUT_THERE
from tests.model_ledger import PLACE, a_running_job, everything

TEXT = "hm, well: \N{BALLOON} goes up, and \N{BALLOON} comes down"
REASONING = 8  # characters of it


@pytest.fixture
def cloud(client: redis.Redis, settings: Settings) -> CloudLedger:
    return CloudLedger(client, settings)


@pytest.fixture
def hearing(client: redis.Redis) -> Iterator[redis.client.PubSub]:
    """What everybody hears."""
    with client.pubsub() as subscription:
        subscription.subscribe("said")
        assert subscription.get_message(timeout=5)
        yield subscription


def heard(hearing: redis.client.PubSub) -> list[tuple[str, str]]:
    """The position and text of everything published so far."""
    pieces: list[tuple[str, str]] = []
    hearing.ping()  # is answered after all that was published before
    while True:
        message = hearing.get_message(timeout=5)
        assert message, "no answer to a ping"
        if message["type"] == "pong":
            return pieces
        pieces += [(position, text) for _, _, position, _, text in msgspec.msgpack.decode(message["data"])]


def content(claim: Claim, start: int, text: str) -> CloudSaying:
    return CloudSaying(claim, start, Voice.CONTENT, text)


def cut(cuts: set[int]) -> list[tuple[int, Voice, str]]:
    """Return the text in pieces, cut at these places and where the reasoning ends."""
    places = sorted({0, REASONING, len(TEXT), *cuts})
    return [(start, Voice.REASONING if start < REASONING else Voice.CONTENT, TEXT[start:end])
            for start, end in pairwise(places)]


# -- said


def test_a_reader_is_told_of_the_beginning_when_it_begins_and_not_before(
        ledger: Ledger, cloud: CloudLedger, streams: Streams, announcements: Announcements, client: redis.Redis) -> None:
    sent = sent_job(ledger, cloud)
    follower = Follower(sent.id, ledger, streams, announcements)
    wait_until(lambda: client.pubsub_numsub("said")[0][1], timeout_s=SOON_S, what="the process to hear")
    assert ledger.said(sent.id) == Said(0, 0, [])
    claim = cloud.begin(sent.id, sent.owner, OUT_THERE, run="r1")
    assert claim
    wait_until(lambda: follower.names == ["queued", "started"], timeout_s=SOON_S, what="the beginning")

    cloud.say([content(claim, 3, "lo "), content(claim, 0, "hel")])
    follower.reads("hello ")
    ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text": "hello there"}'))
    follower.ends()
    assert follower.text == "hello there"
    assert follower.names[-1] == "succeeded"


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=25, suppress_health_check=list(hypothesis.HealthCheck))
def test_in_whatever_order_and_however_often_pieces_arrive_they_are_told_once_and_in_order(
        client: redis.Redis, settings: Settings, hearing: redis.client.PubSub, data: st.DataObject) -> None:
    ledger, cloud = Ledger(client, settings), CloudLedger(client, settings)
    claim = begun_job(ledger, cloud)
    pieces = cut(data.draw(st.sets(st.integers(1, len(TEXT) - 1), max_size=12), label="cuts"))
    arriving = data.draw(st.permutations(pieces + pieces[:data.draw(st.integers(0, len(pieces)))]), label="arriving")
    heard(hearing)
    while arriving:
        count = data.draw(st.integers(1, 4), label="in one report")
        assert all(cloud.say([CloudSaying(claim, *piece) for piece in arriving[:count]]))
        arriving = arriving[count:]

    said = [Piece(1, 0, Voice.STARTED, ""), *(Piece(1, start + len(text), voice, text) for start, voice, text in pieces)]
    assert ledger.said(claim.id) == Said(1, len(TEXT), said)
    assert heard(hearing) == [(str(piece.position), piece.text) for piece in said[1:]]
    assert not client.exists(f"unsaid:{claim.id}")


def test_pieces_that_were_cut_in_another_way_leave_nothing_out(ledger: Ledger, cloud: CloudLedger) -> None:
    claim = begun_job(ledger, cloud)
    for start, text in [(6, "gh"), (3, "d"), (3, "def"), (3, "d"), (0, "abcd"), (2, "cde"), (8, "")]:
        assert cloud.say([content(claim, start, text)]) == [True]

    said = ledger.said(claim.id)
    assert said.total == 8
    told = ""
    for piece in said.pieces:
        assert piece.position - len(piece.text) <= len(told) < piece.position or piece.voice is Voice.STARTED
        told += piece.text[len(piece.text) - (piece.position - len(told)):]
    assert told == "abcdefgh"


def test_nobody_but_the_run_is_heard_and_what_it_had_not_said_goes_with_it(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    claim = begun_job(ledger, cloud)
    for forged in (replace(claim, owner="r2"), replace(claim, attempt=2), replace(claim, id="nobody")):
        assert cloud.say([content(forged, 0, "no")]) == [False]
    assert cloud.say([content(claim, 0, "yes"), content(claim, 9, "later")]) == [True, True]
    assert client.exists(f"unsaid:{claim.id}")

    ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text": "yes and later"}'))
    assert cloud.say([content(claim, 3, " and l")]) == [False]
    assert cloud.say([]) == []
    assert ledger.said(claim.id).total == 3
    assert not client.exists(f"unsaid:{claim.id}")


@pytest.mark.parametrize("how", ["released", "lost", "cancelled"])
def test_what_a_run_said_too_early_is_nothing_to_the_next_attempt(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, settings: Settings, how: str) -> None:
    claim = begun_job(ledger, cloud)
    cloud.say([content(claim, 0, "hel"), content(claim, 9, "early")])
    cloud.part(claim, 0, 2, "half")
    if how == "released":
        ledger.release(claim, because="drain")
    elif how == "lost":
        ledger.now_ms = claim.created_ms + round(settings.cloud_lease_s * 1000) + 60_000
        ledger.reap()
    else:
        ledger.cancel(claim.id)
    assert not client.exists(f"unsaid:{claim.id}", f"parts:{claim.id}")
    if how == "cancelled":
        return

    again = ledger.claim(claim.id, PLACE, owner=new_owner())
    assert isinstance(again, Claim)
    assert ledger.said(claim.id) == Said(2, 0, [])
    assert cloud.say([content(claim, 3, "lo")]) == [False]
    assert cloud.say([content(again, 3, "lo")]) == [False], "it runs here"


def test_what_was_said_here_is_void_when_the_next_attempt_begins_in_the_cloud(ledger: Ledger, cloud: CloudLedger) -> None:
    here = a_running_job(ledger)
    say(ledger, here, 5, "hello")
    ledger.release(here, because="drain")
    sent = cloud.send_job(here.id, decision=b"{}", rules=RULES)
    assert isinstance(sent, Claim)
    assert ledger.said(here.id).total == 5, "until then it stands"

    assert cloud.begin(sent.id, sent.owner, OUT_THERE, run="r1")
    assert ledger.said(here.id) == Said(2, 0, [Piece(2, 0, Voice.STARTED, "")])


# -- an end in parts


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 1, 2, 1, 0)])
def test_an_end_is_whole_when_all_its_parts_are_there(ledger: Ledger, cloud: CloudLedger, order: tuple[int, ...]) -> None:
    claim, texts = begun_job(ledger, cloud), ["\N{BALLOON}" * 1000, "", "end"]
    *before, last = [cloud.part(claim, number, 3, texts[number]) for number in order]

    assert before == [None] * (len(order) - 1)
    assert last == "".join(texts)
    assert cloud.part(claim, 1, 3, texts[1]) == last, "its reply was lost"


def test_parts_are_kept_of_the_run_alone_and_not_for_ever(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    claim = begun_job(ledger, cloud)
    assert cloud.part(claim, 0, 2, "a") is None
    before = everything(client)
    for forged in (replace(claim, owner="r2"), replace(claim, attempt=2), replace(claim, id="nobody")):
        assert cloud.part(forged, 1, 2, "b") is None

    assert everything(client) == before
    assert 0 < client.pttl(f"parts:{claim.id}") <= 3_600_000
    with pytest.raises(InvalidInput, match="part 2 of 2"):
        cloud.part(claim, 2, 2, "c")


# -- what is void


def test_what_is_void_is_told_by_one_and_goes_when_it_was_told(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    sent, begun = sent_job(ledger, cloud), begun_job(ledger, cloud)
    assert cloud.stops("one", block_ms=1) == []
    ledger.cancel(sent.id)
    ledger.cancel(begun.id)
    cloud.void([(begun.id, "r9", "cloud@other")])
    cloud.void([])

    stops = cloud.stops("one", block_ms=1000)
    assert [(stop.void, stop.worker) for stop in stops] \
        == [(sent.owner, ""), (begun.owner, "cloud@far"), ("r9", "cloud@other")]
    assert cloud.stops("two", block_ms=1) == []
    cloud.stopped([stop.entry_id for stop in stops[:2]])
    cloud.stopped([])
    assert cloud.stops("two", block_ms=1, abandoned_ms=0) == [Stop(stops[2].entry_id, "r9", "cloud@other")], "left by one"
    assert client.xlen("void") == 1


def test_what_became_void_before_anybody_asked_is_told_too(ledger: Ledger, cloud: CloudLedger) -> None:
    ledger.cancel(sent_job(ledger, cloud).id)

    assert len(cloud.stops("one", block_ms=1)) == 1
