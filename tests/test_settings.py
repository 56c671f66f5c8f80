"""A setting that is wrong or unknown refuses to start, with every fault at once; what is right is taken."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.errors import SettingsError
from app.settings import Settings, load_settings


def faults(environ: dict[str, str] | None = None, table: dict[str, Any] | None = None) -> list[str]:
    """Return what load_settings refuses these for."""
    with pytest.raises(SettingsError) as refusal:
        load_settings(environ or {}, table)
    return refusal.value.faults


def test_without_any_setting_the_defaults_hold() -> None:
    assert load_settings({}) == Settings()


def test_values_are_read_from_the_environment_by_their_kind() -> None:
    settings = load_settings({
        "TANDEM_LEASE_S": "12.5", "TANDEM_MAX_ATTEMPTS": "5", "TANDEM_TRUST_REMOTE_CODE": "TRUE",
        "TANDEM_DATA_DIR": "/srv/tandem", "TANDEM_REDIS_URL": "unix:///run/redis.sock", "HOME": "/root"})

    assert settings == Settings(lease_s=12.5, max_attempts=5, trust_remote_code=True, data_dir=Path("/srv/tandem"),
                                redis_url="unix:///run/redis.sock")


def test_values_are_read_from_the_file_by_their_kind() -> None:
    settings = load_settings({}, {"lease_s": 12, "max_attempts": 5, "trust_remote_code": False, "data_dir": "/srv"})

    assert settings == Settings(lease_s=12.0, max_attempts=5, trust_remote_code=False, data_dir=Path("/srv"))
    assert isinstance(settings.lease_s, float)


def test_the_environment_wins_over_the_file() -> None:
    assert load_settings({"TANDEM_MODEL": "here"}, {"model": "there", "max_lost": 7}) == Settings(
        model="here", max_lost=7)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_MAX_LOST", "9")

    assert load_settings().max_lost == 9


def test_variables_that_say_where_the_settings_are_are_not_settings() -> None:
    assert load_settings({"TANDEM_TOPOLOGY": "/etc/tandem.toml", "TANDEM_PROFILE": "standard"}) == Settings()


def test_every_fault_of_both_places_is_listed_at_once() -> None:
    environ = {"TANDEM_LEASE_S": "soon", "TANDEM_MAX_ATTEMPTS": "2.5", "TANDEM_LEESE_S": "3", "TANDEM_ENGINE": "vllm"}
    table = {"trust_remote_code": "perhaps", "log_level": "LOUD", "redis_timeout_s": -1, "colour": "red"}

    found = faults(environ, table)

    assert len(found) == 8
    for part in ("[settings] trust_remote_code must be true or false; got 'perhaps'",
                 "[settings] colour is not a setting; the settings are redis_url,",
                 "TANDEM_LEASE_S must be a number; got 'soon'",
                 "TANDEM_MAX_ATTEMPTS must be a whole number; got '2.5'",
                 "TANDEM_LEESE_S is not a setting; did you mean lease_s?",
                 "engine must be torch, openai or scripted; got 'vllm'",
                 "log_level must be DEBUG, INFO, WARNING or ERROR; got 'LOUD'",
                 "redis_timeout_s must be above 0; got -1.0"):
        assert any(fault.startswith(part) for fault in found), part


def test_the_refusal_says_how_many_faults_there_are_and_gives_each_a_line() -> None:
    with pytest.raises(SettingsError, match=r"fix these 2 faults:\n  - TANDEM_LEASE_S .*\n  - TANDEM_MODLE .*"):
        load_settings({"TANDEM_LEASE_S": "soon", "TANDEM_MODLE": "x"})


@pytest.mark.parametrize(("name", "suggestion"), [
    ("TANDEM_REDIS_ULR", "redis_url"), ("TANDEM_RETENTION", "retention_s"), ("TANDEM_MAX_ATEMPTS", "max_attempts")])
def test_an_unknown_name_comes_with_the_nearest_known_one(name: str, suggestion: str) -> None:
    assert faults({name: "1"}) == [f"{name} is not a setting; did you mean {suggestion}?"]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e999"])
def test_times_and_counts_must_be_above_zero_and_finite(value: str) -> None:
    (fault,) = faults({"TANDEM_RETENTION_S": value})

    assert fault.startswith("retention_s must be above 0; got ")


@pytest.mark.parametrize(("name", "value", "rule"), [
    ("max_attempts", 2.7, "must be a whole number"), ("max_attempts", 3.0, "must be a whole number"),
    ("max_attempts", True, "must be a whole number"), ("max_attempts", [3], "must be a whole number"),
    ("lease_s", False, "must be a number"), ("lease_s", {"s": 3}, "must be a number"),
    ("lease_s", "", "must be a number"), ("lease_s", 10**400, "must be a number"),
    ("trust_remote_code", 2, "must be true or false"), ("trust_remote_code", "yes", "must be true or false"),
    ("trust_remote_code", [], "must be true or false"),
    ("model", 7, "must be text"), ("data_dir", True, "must be text")])
def test_a_value_of_another_kind_is_a_fault_and_not_bent_to_fit(name: str, value: object, rule: str) -> None:
    assert faults(table={name: value}) == [f"[settings] {name} {rule}; got {value!r}"]


@pytest.mark.parametrize(("value", "meant"), [(1, True), (0, False), ("1", True), ("False", False)])
def test_one_and_zero_will_do_for_true_and_false(value: object, meant: bool) -> None:
    assert load_settings({}, {"trust_remote_code": value}).trust_remote_code is meant


def test_a_fault_in_the_file_is_listed_although_the_environment_overrides_it() -> None:
    assert len(faults({"TANDEM_LEASE_S": "10"}, {"lease_s": "soon"})) == 1


def test_a_beat_must_leave_room_for_one_that_is_late() -> None:
    assert load_settings({"TANDEM_BEAT_S": "5", "TANDEM_LEASE_S": "10"}).beat_s == 5.0
    (fault,) = faults({"TANDEM_BEAT_S": "5.1"})
    assert fault.startswith("beat_s must be at most half of lease_s")


def test_a_message_goes_to_another_before_the_job_that_it_is_about_comes_home() -> None:
    assert load_settings({"TANDEM_MNS_VISIBILITY_S": "59"}).mns_visibility_s == 59.0
    (fault,) = faults({"TANDEM_MNS_VISIBILITY_S": "60"})
    assert fault.startswith("mns_visibility_s must be below cloud_lease_s")


def test_a_cloud_worker_may_miss_a_beat() -> None:
    assert load_settings({"TANDEM_CLOUD_BEAT_S": "30"}).cloud_beat_s == 30.0
    (fault,) = faults({"TANDEM_CLOUD_BEAT_S": "31"})
    assert fault.startswith("cloud_beat_s must be at most half of cloud_lease_s")


@pytest.mark.parametrize("url", ["http://h", "mns://", "mns://id:secret@h", "mns://h:0", "mns://h/path", "mns://h?x=1"])
def test_an_address_of_mns_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    (fault,) = faults({"TANDEM_MNS_URL": url})
    assert fault.startswith("mns_url must be as mns://host:port")
    assert "secret@" not in fault


@pytest.mark.parametrize("url", [
    "redis://h/0", "rediss://h:6380", "unix:///run/r.sock", "sentinel://a;sentinel://b/0", ""])
def test_redis_may_be_named_by_any_of_its_schemes_or_left_to_the_embedded_one(url: str) -> None:
    assert load_settings({"TANDEM_REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("url", ["localhost:6379", "http://h", "amqp://h"])
def test_another_scheme_is_refused(url: str) -> None:
    (fault,) = faults({"TANDEM_REDIS_URL": url})
    assert fault.startswith("redis_url must start with redis://")


@pytest.mark.parametrize("url", ["redis://:pw@h/1", "unix:///run/cache.sock", "redis-cluster://h-1:7000",
                                 "rediss-cluster://u:p%40w@h.a:7000;10.0.0.1:7000;[::1]:7000"])
def test_a_cache_is_given_as_a_redis_or_as_some_servers_of_a_cluster(url: str) -> None:
    assert load_settings({"TANDEM_CACHE_URL": url}).cache_url == url


@pytest.mark.parametrize("url", ["h:7000", "sentinel://h:1", "redis-cluster://h", "redis-cluster://", "redis-cluster://h:1;",
                                 "redis-cluster://h:1,h:2", "redis-cluster://h:1/0", "redis-cluster://h:70000",
                                 "redis-cluster://h:1;u:secret@h:2"])
def test_what_is_no_cache_is_refused_without_its_password_being_shown(url: str) -> None:
    (fault,) = faults({"TANDEM_CACHE_URL": url})
    assert fault.startswith("cache_url must start with redis://")
    assert "secret" not in fault


def test_the_openai_engine_needs_an_address() -> None:
    (fault,) = faults({"TANDEM_ENGINE": "openai"})
    assert fault.startswith("openai_url is missing, which the engine openai needs")
    assert load_settings({"TANDEM_ENGINE": "openai"}, {"openai_url": "http://gpu-1:8000/v1"}).engine == "openai"


@pytest.mark.parametrize("url", ["gpu-1:8000", "ftp://h/v1", "http://", "http://u:p@h/v1", "http://h/v1?key=x",
                                 "http://h:port/v1", "http://[::1/v1"])
def test_what_is_no_base_url_is_refused(url: str) -> None:
    (fault,) = faults({"TANDEM_OPENAI_URL": url})
    assert fault.startswith("openai_url must be a base URL")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "clé-secret"])
def test_a_key_is_shown_neither_by_the_settings_nor_by_a_fault(key: str) -> None:
    assert faults({"TANDEM_OPENAI_KEY": key}) == ["openai_key must be printable ASCII without spaces"]
    assert faults(table={"openai_key": [key]}) == ["[settings] openai_key must be text"]
    assert "secret" not in repr(load_settings({"TANDEM_OPENAI_KEY": "sk-secret"}))


def test_a_request_to_an_upstream_must_be_able_to_wait_until_that_is_tried_again() -> None:
    assert load_settings({"TANDEM_OPENAI_RETRY_S": "10"}).openai_retry_s == 10.0
    (fault,) = faults({"TANDEM_OPENAI_RETRY_S": "9.9"})
    assert fault.startswith("openai_breaker_cooldown_s must be at most openai_retry_s")
    assert faults({"TANDEM_OPENAI_BREAKER_COOLDOWN_S": "31"})


@pytest.mark.parametrize("profile", ["", "cloud"])
def test_celery_refuses_wrong_settings_with_all_their_faults_and_nothing_else(profile: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    environ |= {"TANDEM_ENGINE": "oracle", "TANDEM_LEASE_S": "long"} | ({"TANDEM_PROFILE": profile} if profile else {})

    done = subprocess.run([sys.executable, "-m", "celery", "-A", "workers", "status"], env=environ, capture_output=True,
                          text=True, timeout=60, check=False)

    assert done.returncode == 1
    first, *told = done.stderr.splitlines()
    assert first == "refusing to start; fix these 2 faults:"
    assert sorted(told) == ["  - TANDEM_LEASE_S must be a number; got 'long'",
                            "  - engine must be torch, openai or scripted; got 'oracle'"]
    assert done.stdout == ""
