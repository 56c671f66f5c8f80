"""The setting that says where alerts go: what is taken, what refuses to start, and what of it is ever shown."""

import pytest

from app.alert_hooks import Form, read_hooks
from app.errors import SettingsError
from app.settings import load_settings

TOKEN = "d1n9t4lkt0ken0123456789"
ROBOT = f"dingtalk+https://oapi.dingtalk.com/robot/send?access_token={TOKEN}&secret=SECabcdef0123456789"


def test_hooks_stand_one_after_the_other_in_the_setting() -> None:
    plain, robot = read_hooks(f"http://10.0.0.7:9000/alerts?key=s3cr3t-key  {ROBOT}")

    assert (plain.form, plain.url, plain.secret) == (Form.JSON, "http://10.0.0.7:9000/alerts?key=s3cr3t-key", "")
    assert (robot.form, robot.secret) == (Form.DINGTALK, "SECabcdef0123456789")
    assert robot.url == f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}"
    assert (plain.index, robot.index) == (0, 1)
    assert read_hooks("") == ()


@pytest.mark.parametrize("setting", [
    "oapi.dingtalk.com/robot", "ftp://host/x", "https://", "https://user:pass@host/x", "https://host/x#part",
    "https://host:99999999/x", "https://host/ä", "dingtalk+https://oapi.dingtalk.com/robot/send",
    "dingtalk+https://oapi.dingtalk.com/robot/send?access_token=", "slack+https://host/x",
    "dingtalk+https://oapi.dingtalk.com/robot/send?access_token=x&secret=", "https://host/x https://host/x",
])
def test_what_is_no_hook_refuses_to_start_without_being_repeated(setting: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings({"TANDEM_ALERT_WEBHOOKS": setting})

    (fault,) = refusal.value.faults
    assert fault.startswith("alert_webhooks must be URLs with a space between")
    assert fault.endswith("none with a user, a password or a fragment")  # and nothing of what was given


def test_good_hooks_start() -> None:
    assert load_settings({"TANDEM_ALERT_WEBHOOKS": f"https://hooks.example/x {ROBOT}"}).alert_webhooks


def test_only_the_host_of_a_hook_is_shown() -> None:
    (robot,) = read_hooks(ROBOT)
    (plain,) = read_hooks("https://hooks.example:8443/services/T0001/B0002/XXXXYYYYZZZZ")

    assert (robot.where, plain.where) == ("https://oapi.dingtalk.com", "https://hooks.example:8443")
    for hook, secret in ((robot, TOKEN), (robot, "SECabcdef"), (plain, "XXXXYYYY")):
        assert secret not in repr(hook) + hook.where + hook.name


def test_what_others_say_of_a_hook_is_cleaned_of_its_secrets() -> None:
    (robot,) = read_hooks(ROBOT)
    (plain,) = read_hooks("https://hooks.example/services/XXXXYYYYZZZZ?sig=a%2Fb%3D%3Dcd")

    assert TOKEN not in robot.scrubbed(f"no such token {TOKEN}, or {robot.url}")
    assert robot.secret not in robot.scrubbed(f"bad secret {robot.secret}")
    assert plain.scrubbed("POST /services/XXXXYYYYZZZZ with a/b==cd failed") == "POST *** with *** failed"


def test_two_hooks_are_never_kept_under_one_name() -> None:
    one, other = read_hooks(f"{ROBOT} {ROBOT.replace('SECabc', 'SECxyz')}")

    assert one.name != other.name
