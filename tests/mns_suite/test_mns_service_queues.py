"""The operations on queues and on the account as the unmodified SDK sees it, over real sockets.

The same file runs against the real service: see tests/mns_service.py.
"""

import time

from mns.queue import Message, QueueMeta

from tests.mns_suite.client import (
    Queues,
    Service,
    attributes,
    refused,
)


def test_a_queue_is_created_with_its_attributes_and_tells_them(queues: Queues) -> None:
    queue = queues.make(vis_timeout=45, max_msg_size=2048, msg_ttl=3600, delay_sec=1, polling_wait_sec=2,
                        logging_enabled=False)
    meta = attributes(queue)
    assert (meta.visibility_timeout, meta.maximum_message_size, meta.message_retention_period, meta.delay_seconds,
            meta.polling_wait_seconds, meta.logging_enabled) == (45, 2048, 3600, 1, 2, False)
    assert meta.queue_name == queue.queue_name
    assert abs(meta.create_time - time.time()) < 300
    assert meta.last_modify_time >= meta.create_time


def test_a_queue_has_the_documented_defaults(queues: Queues) -> None:
    meta = attributes(queues.make())
    assert (meta.visibility_timeout, meta.maximum_message_size, meta.delay_seconds, meta.polling_wait_seconds) == (
        30, 65536, 0, 0)
    assert meta.message_retention_period in (259200, 345600)  # by the older and the newer pages


def test_creating_the_same_queue_again_gives_the_same_address(queues: Queues) -> None:
    queue = queues.account.get_queue(queues.name())
    first = queue.create(QueueMeta(vis_timeout=40))
    assert first.endswith(f"/queues/{queue.queue_name}")
    assert queue.create(QueueMeta(vis_timeout=40)) == first


def test_creating_a_queue_with_other_attributes_is_refused(queues: Queues) -> None:
    queue = queues.make(vis_timeout=40)
    with refused("QueueAlreadyExist"):
        queue.create(QueueMeta(vis_timeout=41))
    assert attributes(queue).visibility_timeout == 40


def test_attributes_are_set_one_at_a_time(queues: Queues) -> None:
    queue = queues.make(vis_timeout=40, delay_sec=3)
    queue.set_attributes(QueueMeta(vis_timeout=50))
    meta = attributes(queue)
    assert (meta.visibility_timeout, meta.delay_seconds) == (50, 3)


def test_a_deleted_queue_is_gone_for_all_operations(queues: Queues) -> None:
    queue = queues.make()
    queue.send_message(Message("soon gone"))
    queue.delete()
    for operation in (lambda: attributes(queue), lambda: queue.set_attributes(QueueMeta(vis_timeout=40)),
                      lambda: queue.send_message(Message("late")), lambda: queue.batch_send_message([Message("late")]),
                      lambda: queue.receive_message(0), lambda: queue.batch_receive_message(2, 0), queue.peek_message):
        with refused("QueueNotExist"):
            operation()


def test_deleting_a_queue_twice_does_no_harm(queues: Queues, service: Service) -> None:
    queue = queues.make()
    queue.delete()
    assert service.send(service.request("DELETE", f"/queues/{queue.queue_name}")).status in (204, 404)  # both documented
    with refused("QueueNotExist"):
        attributes(queue)


def test_queues_are_listed_by_prefix_in_pages(queues: Queues) -> None:
    names = sorted(queues.make().queue_name for _ in range(5))
    seen: list[str] = []
    marker = ""
    pages = 0
    while pages == 0 or marker:
        addresses, marker = queues.account.list_queue(queues.prefix, 2, marker)
        assert len(addresses) <= 2
        seen += [address.rpartition("/queues/")[2] for address in addresses]
        pages += 1
    assert (sorted(seen), pages) == (names, 3)


def test_a_prefix_that_no_queue_has_lists_nothing(queues: Queues) -> None:
    queues.make()
    assert queues.account.list_queue(f"{queues.prefix}-other") == ([], "")


def test_the_account_has_attributes(service: Service) -> None:
    with service.account() as account:
        assert isinstance(account.get_attributes().logging_bucket, str)
