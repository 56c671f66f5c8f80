"""A cloud worker that cannot work does not start, and says in a line why not."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from celery.concurrency.thread import TaskPool

from app.errors import SettingsError
from app.settings import Settings
from app.topology import load
from ops.embedded_redis import free_port
from ops.mns_server import LocalMns
from ops.waiting import wait_until
from tests.cloud_worker import KEY, with_key
from workers.cloud import access, boot
from workers.cloud.application import make_app


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with the right key; `mns_url` is the test's affair."""
    return with_key(Settings(data_dir=tmp_path, mns_prefix="p"), tmp_path)


def refusal(settings: Settings) -> str:
    """Why these settings are refused, which is one line and no secret."""
    with pytest.raises(SettingsError) as refused:
        access.check(settings)
    fault, = refused.value.faults
    assert "\n" not in fault
    assert KEY[1] not in fault
    return fault


def test_with_the_right_key_its_queues_are_made(settings: Settings) -> None:
    with LocalMns.running([KEY]) as mns:
        access.check(replace(settings, mns_url=mns.url))
        assert mns.service.names(most=10) == (["p-jobs", "p-results"], False)


@pytest.mark.parametrize(("name", "secret", "code"), [
    ("nobody", KEY[1], "InvalidAccessKeyId"), (KEY[0], "wrong", "SignatureDoesNotMatch"),
])
def test_a_wrong_key_is_refused(settings: Settings, name: str, secret: str, code: str) -> None:
    with LocalMns.running([KEY]) as mns:
        why = refusal(with_key(replace(settings, mns_url=mns.url), settings.data_dir, (name, secret)))
    assert why.startswith("MNS refuses this worker: ")
    assert code in why
    assert "check the access key" in why


def test_without_a_key_it_is_refused_with_the_places_where_one_may_be(
        settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ALIBABA_CLOUD_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    with LocalMns.running([KEY]) as mns:
        why = refusal(replace(settings, mns_url=mns.url, mns_credentials=""))
    assert "no access keys found" in why
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in why


def test_a_clock_that_is_an_hour_off_is_refused(settings: Settings) -> None:
    with LocalMns.running([KEY]) as mns:
        mns.admission.skew_s = 3600.0
        assert "this machine's clock is more than 15 minutes off" in refusal(replace(settings, mns_url=mns.url))


def test_a_missing_queue_that_may_not_be_made_is_refused_and_one_that_is_there_is_used(settings: Settings) -> None:
    with LocalMns.running([KEY]) as mns:
        careful = replace(settings, mns_url=mns.url, mns_create_queues=False)
        why = refusal(careful)
        assert "queue p-jobs does not exist" in why
        assert "create it in the console" in why
        access.check(replace(settings, mns_url=mns.url))
        access.check(careful)


def test_an_mns_that_is_away_is_waited_for(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    waiting = threading.Thread(target=access.check, args=(replace(settings, mns_url=f"mns://127.0.0.1:{port}"),))
    with caplog.at_level("INFO"):
        waiting.start()
        wait_until(lambda: "mns_unreachable" in caplog.text, timeout_s=20, what="a line in the log")
        assert waiting.is_alive()
        with LocalMns.running([KEY], port=port):
            waiting.join(20)
    assert not waiting.is_alive()


def test_a_refused_worker_ends_with_one_line_in_its_log(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    environ |= {"TANDEM_PROFILE": "cloud", "TANDEM_ENGINE": "scripted", "TANDEM_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "celery", "-A", "workers", "worker", "-n", "cloud@x"], env=environ,
                          capture_output=True, text=True, timeout=60, check=False)

    line, = [json.loads(text) for text in done.stderr.splitlines() if text.startswith("{")]
    assert (line["event"], line["worker"]) == ("worker_refused", "cloud@x")
    assert line["why"].startswith("mns_url is missing")
    assert done.stderr.splitlines()[-1] == f"cloud@x cannot start: {line['why']}"
    assert done.returncode == 1


def test_a_worker_whose_engine_cannot_load_is_refused(
        settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    plan = load({"TANDEM_PROFILE": "cloud"}, embedded=False)[1]
    monkeypatch.setattr(boot.logs, "configure", Mock())
    with LocalMns.running([KEY]) as mns:
        app = make_app(replace(settings, mns_url=mns.url, engine="oracle"), plan)
        with pytest.raises(SystemExit, match=r"^cloud@x cannot start: engine 'oracle' is not known$"):
            boot._prepare(Mock(app=app, pool_cls=TaskPool, hostname="cloud@x", concurrency=1))
    assert "worker_refused" in caplog.text
