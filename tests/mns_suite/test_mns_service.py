"""The operations on messages as the unmodified SDK sees it, over real sockets.

The same file runs against the real service: see tests/mns_service.py.
"""

import threading
import time

from mns.account import Account
from mns.message_property import MessagePropertyValue, MessageSystemPropertyValue
from mns.mns_common import RequestInfo
from mns.queue import Message

from ops.waiting import wait_until
from tests.mns_suite.client import (
    PATIENCE_S,
    Queues,
    Service,
    empty,
    refused,
    take,
    take_all,
    took,
    visible,
)

UNICODE = "你好世界 Grüße 😀 <tag> & \"quotes\" 'single'\n\ttwo lines"


def test_a_message_comes_back_as_it_was_sent(queues: Queues) -> None:
    queue = queues.make(vis_timeout=30)
    sent = queue.send_message(Message(UNICODE))
    got = take(queue)
    assert got.message_body == UNICODE.encode()
    assert (got.message_id, got.message_body_md5) == (sent.message_id, sent.message_body_md5)
    assert (got.dequeue_count, got.priority) == (1, 8)
    assert abs(got.enqueue_time / 1000 - time.time()) < 300
    assert got.first_dequeue_time >= got.enqueue_time
    assert 25_000 < got.next_visible_time - got.first_dequeue_time < 35_000
    assert len(sent.message_id) == len(sent.message_body_md5) == 32
    assert sent.receipt_handle == ""


def test_a_raw_body_comes_back_as_it_was_sent(queues: Queues) -> None:
    queue = queues.make()
    queue.set_encoding(False)
    queue.send_message(Message(UNICODE))
    assert take(queue).message_body == UNICODE


def test_a_batch_comes_back_whole(queues: Queues) -> None:
    queue = queues.make()
    bodies = [f"{number} {UNICODE}" for number in range(16)]
    sent = queue.batch_send_message([Message(body) for body in bodies])
    got = take_all(queue, 16)
    assert sorted(message.message_body.decode() for message in got) == sorted(bodies)
    assert {message.message_id for message in got} == {message.message_id for message in sent}
    queue.batch_delete_message([message.receipt_handle for message in got])
    assert empty(queue)


def test_properties_come_back_with_their_types(queues: Queues) -> None:
    queue = queues.make()
    message = Message("with properties")
    given = {"title": MessagePropertyValue.create_string("<你好> & co"), "size": MessagePropertyValue.create_number(4.5),
             "whole": MessagePropertyValue.create_boolean(True), "raw": MessagePropertyValue.create_binary(b"\x00\xff\x01")}
    for name, value in given.items():
        message.add_user_property(name, value)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    message.add_system_property("traceparent", MessageSystemPropertyValue.create_string(trace))
    queue.send_message(message)
    for got in (queue.peek_message(), take(queue)):
        properties = got.get_user_properties()
        assert {name: (value.get_data_type(), value.get_raw_value()) for name, value in properties.items()} == {
            name: (value.get_data_type(), value.get_raw_value()) for name, value in given.items()}
        assert got.get_system_properties()["traceparent"].get_raw_value() == trace


def test_properties_travel_in_batches_too(queues: Queues) -> None:
    queue = queues.make()
    message = Message("with a property")
    message.add_user_property("lane", MessagePropertyValue.create_string("fast"))
    queue.batch_send_message([message])
    [got] = take_all(queue, 1)
    assert got.get_user_properties()["lane"].get_raw_value() == "fast"


def test_a_request_may_carry_an_id_of_the_caller(queues: Queues) -> None:
    queue = queues.make()
    queue.send_message(Message("traced"), RequestInfo("our-own-id-1"))
    assert queue.receive_message(PATIENCE_S, RequestInfo("our-own-id-2")).message_body == b"traced"


def test_a_message_is_invisible_while_it_is_held_and_comes_again_after(queues: Queues) -> None:
    queue = queues.make(vis_timeout=1)
    queue.send_message(Message("again"))
    first = take(queue)
    assert empty(queue)
    second = take(queue)
    assert (second.message_id, second.dequeue_count, second.first_dequeue_time) == (
        first.message_id, 2, first.first_dequeue_time)
    assert second.receipt_handle != first.receipt_handle
    assert second.next_visible_time > first.next_visible_time


def test_an_expired_handle_neither_deletes_nor_extends(queues: Queues) -> None:
    queue = queues.make(vis_timeout=1)
    queue.send_message(Message("kept"))
    stale = take(queue).receipt_handle
    wait_until(lambda: visible(queue), timeout_s=10, what="the message to be visible again")
    for _ in range(2):  # before another takes it, and after
        with refused("MessageNotExist"):
            queue.delete_message(stale)
        with refused("MessageNotExist"):
            queue.change_message_visibility(stale, 30)
        fresh = take(queue).receipt_handle
    queue.delete_message(fresh)
    assert empty(queue)


def test_a_deleted_message_cannot_be_deleted_or_extended(queues: Queues) -> None:
    queue = queues.make(vis_timeout=30)
    queue.send_message(Message("once"))
    handle = take(queue).receipt_handle
    queue.delete_message(handle)
    with refused("MessageNotExist"):
        queue.delete_message(handle)
    with refused("MessageNotExist"):
        queue.change_message_visibility(handle, 30)


def test_a_handle_that_never_was_is_refused_as_such(queues: Queues) -> None:
    queue = queues.make()
    for operation in (lambda: queue.delete_message("no-such-handle"),
                      lambda: queue.change_message_visibility("no-such-handle", 30)):
        with refused("ReceiptHandleError"):
            operation()


def test_a_longer_hold_gives_a_new_handle_and_a_later_time(queues: Queues) -> None:
    queue = queues.make(vis_timeout=1)
    queue.send_message(Message("held"))
    held = take(queue)
    longer = queue.change_message_visibility(held.receipt_handle, 40)
    assert int(longer.next_visible_time) - held.next_visible_time > 30_000
    with refused("MessageNotExist"):  # it would have come after 1 s
        queue.receive_message(2)
    queue.delete_message(longer.receipt_handle)


def test_a_shorter_hold_gives_the_message_back_soon(queues: Queues) -> None:
    queue = queues.make(vis_timeout=600)
    queue.send_message(Message("back"))
    queue.change_message_visibility(take(queue).receipt_handle, 1)
    assert take(queue).dequeue_count == 2


def test_a_look_changes_nothing(queues: Queues) -> None:
    queue = queues.make(vis_timeout=30)
    sent = queue.send_message(Message("looked at"))
    for _ in range(3):
        seen = queue.peek_message()
        assert (seen.message_id, seen.message_body, seen.dequeue_count) == (sent.message_id, b"looked at", 0)
        assert seen.receipt_handle == ""
    [seen] = queue.batch_peek_message(16)
    assert seen.dequeue_count == 0
    assert take(queue).dequeue_count == 1
    with refused("MessageNotExist"):  # what is held is not seen either
        queue.peek_message()


def test_a_delayed_message_comes_with_its_time(queues: Queues) -> None:
    queue = queues.make()
    began = time.monotonic()
    assert queue.send_message(Message("later", 1)).receipt_handle
    assert empty(queue)
    assert take(queue).message_body == b"later"
    assert time.monotonic() - began > 0.9


def test_a_message_of_its_own_delay_overrides_the_queues(queues: Queues) -> None:
    queue = queues.make(delay_sec=600)
    queue.send_message(Message("slow"))
    queue.send_message(Message("now", 0))
    assert take(queue).message_body == b"now"
    assert empty(queue)


def test_a_delayed_message_can_be_deleted_before_its_time(queues: Queues) -> None:
    queue = queues.make()
    handle = queue.send_message(Message("never", 1)).receipt_handle
    queue.delete_message(handle)
    with refused("MessageNotExist"):
        queue.receive_message(2)


def test_urgent_messages_come_first(queues: Queues) -> None:
    queue = queues.make()
    for priority in (16, 8, 1):
        queue.send_message(Message(str(priority), None, priority))
    order = [take(queue) for _ in range(3)]
    assert [message.priority for message in order] == [1, 8, 16]


def test_a_long_poll_ends_with_the_first_message(queues: Queues, service: Service) -> None:
    queue = queues.make()
    name = queue.queue_name

    def send() -> None:
        with service.account() as other:
            other.get_queue(name).send_message(Message("here"))

    (sender := threading.Timer(0.5, send)).start()
    assert took(lambda: queue.receive_message(20)) < 10
    sender.join()


def test_an_empty_long_poll_takes_its_time_and_a_short_one_none(queues: Queues) -> None:
    queue = queues.make(polling_wait_sec=1)

    def poll(wait_s: int) -> None:
        with refused("MessageNotExist"):
            queue.receive_message(wait_s)

    assert took(lambda: poll(-1)) > 0.9  # the queue's own
    assert took(lambda: poll(0)) < 0.9


def test_a_batch_deletion_tells_of_each_failure_and_does_the_rest(queues: Queues) -> None:
    queue = queues.make(vis_timeout=60)
    queue.batch_send_message([Message("one"), Message("two"), Message("three")])
    held = take_all(queue, 3)
    queue.delete_message(held[0].receipt_handle)
    with refused("MessageNotExist", "ReceiptHandleError") as caught:
        queue.batch_delete_message([held[0].receipt_handle, held[1].receipt_handle, "no-such-handle"])
    failures = {failure["ReceiptHandle"]: failure["ErrorCode"] for failure in caught.value.sub_errors}
    assert failures == {held[0].receipt_handle: "MessageNotExist", "no-such-handle": "ReceiptHandleError"}
    with refused("MessageNotExist"):
        queue.delete_message(held[1].receipt_handle)
    queue.delete_message(held[2].receipt_handle)


def test_a_batch_with_one_bad_message_keeps_just_what_its_answer_says(queues: Queues) -> None:
    queue = queues.make(max_msg_size=1024)
    with refused("InvalidArgument") as caught:
        queue.batch_send_message([Message("good"), Message("x" * 2000), Message("good too")])
    kept = [entry["MessageId"] for entry in caught.value.sub_errors or [] if "MessageId" in entry]
    assert sorted(message.message_id for message in take_all(queue, len(kept))) == sorted(kept)
    assert empty(queue)


def test_a_queue_is_emptied_by_receiving_and_deleting(queues: Queues) -> None:
    queue = queues.make(vis_timeout=30)
    for _ in range(3):
        queue.batch_send_message([Message(f"{number}") for number in range(15)])
    handles = [message.receipt_handle for message in take_all(queue, 45)]
    for start in range(0, 45, 16):
        queue.batch_delete_message(handles[start:start + 16])
    assert empty(queue)


def test_many_takers_never_hold_the_same_message(queues: Queues, service: Service) -> None:
    queue = queues.make(vis_timeout=120)
    for _ in range(6):
        queue.batch_send_message([Message(f"{number}") for number in range(10)])
    taken: list[str] = []

    def take_ten(account: Account) -> None:
        for _ in range(10):
            taken.append(take(account.get_queue(queue.queue_name)).message_id)

    def taker() -> None:
        with service.account() as account:
            take_ten(account)

    takers = [threading.Thread(target=taker) for _ in range(6)]
    for one in takers:
        one.start()
    for one in takers:
        one.join()
    assert len(taken) == len(set(taken)) == 60
    assert empty(queue)
