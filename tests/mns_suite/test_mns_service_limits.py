"""Each limit of MNS from both sides, with the unmodified SDK where it lets a value through, else with HTTP of our own.

The same file runs against the real service: see tests/mns_service.py.
"""

from urllib.parse import quote

import pytest
from mns.mns_exception import MNSClientParameterException
from mns.queue import Message, QueueMeta

from tests.mns_suite.client import (
    Queues,
    Service,
    attributes,
    document,
    empty,
    refused,
    take,
    take_all,
    took,
)

#: Names as QueueMeta has them; a value of each that is the first or the last allowed, and those beyond.
_ALLOWED = [("vis_timeout", 1), ("vis_timeout", 43200), ("max_msg_size", 1024), ("max_msg_size", 65536), ("msg_ttl", 60),
            ("msg_ttl", 604800), ("delay_sec", 0), ("delay_sec", 604800), ("polling_wait_sec", 0), ("polling_wait_sec", 30)]
# of the longest life, 604800 and 1296000 are both named in sources; nothing names more
_BEYOND = [("vis_timeout", 43201), ("max_msg_size", 1023), ("max_msg_size", 65537), ("msg_ttl", 59), ("msg_ttl", 1296001),
           ("delay_sec", 604801), ("polling_wait_sec", 31)]
_ATTRIBUTES = {"vis_timeout": "visibility_timeout", "max_msg_size": "maximum_message_size",
               "msg_ttl": "message_retention_period", "delay_sec": "delay_seconds",
               "polling_wait_sec": "polling_wait_seconds"}
_KB = 1024


@pytest.mark.parametrize(("name", "value"), _ALLOWED)
def test_the_first_and_the_last_value_of_an_attribute_are_taken(queues: Queues, name: str, value: int) -> None:
    assert getattr(attributes(queues.make(**{name: value})), _ATTRIBUTES[name]) == value


@pytest.mark.parametrize(("name", "value"), _BEYOND)
def test_a_value_beyond_is_refused_and_changes_nothing(queues: Queues, name: str, value: int) -> None:
    with refused("InvalidArgument"):
        queues.make(**{name: value})
    queue = queues.make()
    before = getattr(attributes(queue), _ATTRIBUTES[name])
    with refused("InvalidArgument"):
        queue.set_attributes(QueueMeta(**{name: value}))
    assert getattr(attributes(queue), _ATTRIBUTES[name]) == before


@pytest.mark.parametrize("value", ["0", "-1", "many", ""])
def test_a_visibility_that_the_sdk_would_not_send_is_refused(queues: Queues, service: Service, value: str) -> None:
    request = service.request("PUT", f"/queues/{queues.name()}", body=document("Queue", VisibilityTimeout=value))
    answer = service.send(request)
    assert (answer.status, answer.error) == (400, "InvalidArgument")


def test_a_name_of_120_characters_is_taken_and_one_of_121_is_not(queues: Queues) -> None:
    queue = queues.account.get_queue(queues.name(length=120))
    queue.create(QueueMeta())
    assert attributes(queue).queue_name == queue.queue_name
    with refused("QueueNameLengthError", "InvalidQueueName"):
        queues.account.get_queue(queues.name(length=121)).create(QueueMeta())


@pytest.mark.parametrize("front", ["under_score", "do.t", "co:lon", "st*r", "-front", "uml\u00e4ut"])
def test_a_name_with_other_characters_is_refused(queues: Queues, service: Service, front: str) -> None:
    name = quote(queues.name(front=front))
    answer = service.send(service.request("PUT", f"/queues/{name}", body=document("Queue")))
    assert (answer.status, answer.error) == (400, "InvalidQueueName")


@pytest.mark.parametrize(("front", "back"), [("9", ""), ("", "-"), ("UPPER", ""), ("", "--dash")])
def test_a_name_of_letters_digits_and_dashes_is_taken(queues: Queues, front: str, back: str) -> None:
    queue = queues.account.get_queue(queues.name(front=front, back=back))
    queue.create(QueueMeta())
    queue.send_message(Message("there"))
    assert take(queue).message_body == b"there"


@pytest.mark.parametrize("seconds", [1, 43200])
def test_a_message_may_be_held_from_a_second_to_half_a_day(queues: Queues, seconds: int) -> None:
    queue = queues.make(vis_timeout=30)
    queue.send_message(Message("held"))
    held = take(queue)
    then = queue.change_message_visibility(held.receipt_handle, seconds)
    assert abs(int(then.next_visible_time) - (held.first_dequeue_time + 1000 * seconds)) < 5000


@pytest.mark.parametrize("seconds", ["0", "43201", "-1", "soon", ""])
def test_a_message_cannot_be_held_shorter_or_longer(queues: Queues, service: Service, seconds: str) -> None:
    queue = queues.make(vis_timeout=60)
    queue.send_message(Message("held"))
    handle = take(queue).receipt_handle
    answer = service.send(service.request(
        "PUT", f"/queues/{queue.queue_name}/messages?ReceiptHandle={handle}&VisibilityTimeout={seconds}"))
    assert answer.status == 400
    assert answer.error in ("InvalidArgument", "InvalidQueryString", "MissingVisibilityTimeout")
    queue.delete_message(handle)  # it is what it was


def test_the_sdk_itself_lets_no_hold_of_43201_seconds_out(queues: Queues) -> None:
    with pytest.raises(MNSClientParameterException):
        queues.make().change_message_visibility("any", 43201)


def test_a_long_poll_of_30_seconds_is_taken_and_one_of_31_is_not(queues: Queues) -> None:
    queue = queues.make()
    queue.send_message(Message("there"))
    assert took(lambda: take(queue, 30)) < 10
    with refused("InvalidArgument", "InvalidQueryString"):
        queue.receive_message(31)


@pytest.mark.parametrize("query", ["waitseconds=-1", "waitseconds=soon", "numOfMessages=0", "numOfMessages=-1",
                                   "numOfMessages=17", "numOfMessages=two"])
def test_a_receive_with_other_numbers_is_refused(queues: Queues, service: Service, query: str) -> None:
    queue = queues.make()
    queue.send_message(Message("still there"))
    answer = service.send(service.request("GET", f"/queues/{queue.queue_name}/messages?{query}"))
    assert answer.status == 400
    assert answer.error in ("InvalidArgument", "InvalidQueryString")
    assert take(queue).dequeue_count == 1


def test_sixteen_make_a_batch_and_seventeen_do_not(queues: Queues) -> None:
    queue = queues.make(vis_timeout=60)
    with refused("InvalidArgument"):
        queue.batch_send_message([Message("one")] * 17)
    assert empty(queue)
    assert len(queue.batch_send_message([Message("one")] * 16)) == 16
    for seventeen in (lambda: queue.batch_receive_message(17, 0), lambda: queue.batch_peek_message(17)):
        with refused("InvalidArgument", "InvalidQueryString"):
            seventeen()
    queue.send_message(Message("one"))
    handles = [message.receipt_handle for message in take_all(queue, 17)]
    with refused("InvalidArgument"):
        queue.batch_delete_message(handles)
    queue.batch_delete_message(handles[:16])
    queue.delete_message(handles[16])


@pytest.mark.parametrize("priority", [1, 16])
def test_priorities_go_from_1_to_16(queues: Queues, priority: int) -> None:
    queue = queues.make()
    queue.send_message(Message("there", None, priority))
    assert take(queue).priority == priority


@pytest.mark.parametrize("priority", [0, 17])
def test_other_priorities_are_refused(queues: Queues, priority: int) -> None:
    queue = queues.make()
    with refused("InvalidArgument"):
        queue.send_message(Message("there", None, priority))
    assert empty(queue)


def test_a_message_may_wait_a_week_and_no_second_more(queues: Queues) -> None:
    queue = queues.make()
    handle = queue.send_message(Message("in a week", 604800)).receipt_handle
    with refused("InvalidArgument"):
        queue.send_message(Message("later", 604801))
    queue.delete_message(handle)


def test_a_body_of_64_kb_is_taken_and_a_byte_more_is_not(queues: Queues) -> None:
    queue = queues.make()
    queue.set_encoding(False)
    queue.send_message(Message("x" * 64 * _KB))
    assert len(take(queue).message_body) == 64 * _KB
    for body in ("x" * (64 * _KB + 1), "ä" * (32 * _KB) + "x"):  # bytes count, not characters
        with refused("InvalidArgument"):
            queue.send_message(Message(body))
    assert empty(queue)


def test_48_kb_of_text_are_the_most_that_the_sdk_encodes_into_one_message(queues: Queues) -> None:
    queue = queues.make()
    queue.send_message(Message("x" * 48 * _KB))
    assert len(take(queue).message_body) == 48 * _KB
    with refused("InvalidArgument"):
        queue.send_message(Message("x" * (48 * _KB + 1)))


def test_a_batch_holds_64_kb_in_all(queues: Queues) -> None:
    queue = queues.make()
    queue.set_encoding(False)
    queue.batch_send_message([Message("x" * 32 * _KB), Message("y" * 32 * _KB)])
    assert {message.message_body[0] for message in take_all(queue, 2)} == {"x", "y"}
    with refused("InvalidArgument"):
        queue.batch_send_message([Message("x" * 32 * _KB), Message("y" * (32 * _KB + 1))])
    assert empty(queue)


def test_the_size_that_the_queue_allows_is_what_counts(queues: Queues) -> None:
    queue = queues.make(max_msg_size=1024)
    queue.set_encoding(False)
    queue.send_message(Message("x" * 1024))
    with refused("InvalidArgument"):
        queue.send_message(Message("x" * 1025))


@pytest.mark.parametrize("number", ["1", "1000"])
def test_a_page_of_queues_holds_1_to_1000(queues: Queues, number: str) -> None:
    queues.make()
    addresses, marker = queues.account.list_queue(queues.prefix, int(number))
    assert (len(addresses), marker) == (1, "")


@pytest.mark.parametrize("number", ["0", "1001", "-1", "all"])
def test_a_page_of_other_sizes_is_refused(service: Service, number: str) -> None:
    answer = service.send(service.signed(service.request("GET", "/queues").saying(x_mns_ret_number=number)))
    assert (answer.status, answer.error) == (400, "InvalidArgument")
