"""What a worker does beside its jobs: only where it runs the queue service, and all of it."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from app.job import Service
from app.ledger import Place
from workers import boot, queue_duties, resources


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """What stands in for the duties of this process, which is made a worker."""
    made = Mock()
    monkeypatch.setattr(queue_duties, "QueueDuties", made)
    for name in ("_node", "_consumer", "_duties"):
        monkeypatch.setattr(boot, name, None)
    return made


def begin(monkeypatch: pytest.MonkeyPatch, *services: Service) -> None:
    place = Place(worker=f"{services[0]}@server-1", server="server-1", processor="P1")
    monkeypatch.setattr(boot, "_node", Mock(services=services, place=place))
    boot._start(SimpleNamespace(app=SimpleNamespace(tandem_settings=None)))


def test_a_worker_of_the_queue_service_begins_its_duties_and_ends_them(
        started: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(monkeypatch, Service.QUEUE)
    assert [call[0] for call in started.return_value.method_calls] == ["start"]
    assert started.call_args.kwargs == {"who": "queue@server-1"}
    boot._drain()
    boot._stop()
    assert [call[0] for call in started.return_value.method_calls] == ["start", "stop", "join"]


def test_so_does_one_of_all_services(started: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(monkeypatch, *Service)
    started.return_value.start.assert_called_once()


def test_a_worker_of_another_service_has_no_duties(started: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(monkeypatch, Service.MODEL, Service.CHAT)
    boot._drain()
    boot._stop()
    started.assert_not_called()


def test_duties_share_the_time_that_a_stopping_worker_has(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(queue_duties, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    waited: list[float] = []

    def join(timeout_s: float) -> None:
        waited.append(timeout_s)
        clock.now_s += 3.0

    monkeypatch.setattr(resources, "held", lambda: SimpleNamespace(keyring=None))
    for name in ("Recovery", "Sampler", "Routing", "AlertCourier", "Investigator", "open_redis"):
        monkeypatch.setattr(queue_duties, name, Mock(return_value=SimpleNamespace(join=join)))
    queue_duties.QueueDuties(Mock(), Mock(mns_url=""), Mock(), who="queue@server-1").join()

    assert waited == [4.0, 1.0, 0.0, 0.0, 0.0]
