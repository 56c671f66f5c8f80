"""What the openai engine keeps to itself: the key, the upstream's address, the prompts; and what it leaves alone: the
environment.
"""

import logging

import pytest

from app.errors import EngineFailed, TandemError
from tests.upstream import (
    KEY,
    NO_RETRY,
    WELL,
    Play,
    ask,
    chat,
    delta,
    engine_for,
    refuses,
    run_on,
    streams,
    upstream,
)


@pytest.mark.parametrize("play", [
    refuses(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), refuses(500, f"debug: {KEY}"),
    streams({"error": {"message": f"{KEY}?"}}), streams({"choices": KEY}), streams(delta(KEY))])
def test_the_key_is_in_no_error_and_no_log(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), upstream(play) as server, engine_for(
            server.url, openai_retry_s=NO_RETRY, openai_breaker_faults=1) as engine:
        with pytest.raises(TandemError) as raised:
            engine.generate(chat("a secret prompt"), run_on)
        assert KEY not in repr(engine)
    chain: BaseException | None = raised.value
    while chain is not None:
        assert KEY not in str(chain)
        chain = chain.__cause__ or chain.__context__
    written = caplog.text + str([vars(record) for record in caplog.records])
    assert KEY not in written
    assert "a secret prompt" not in written


@pytest.mark.parametrize("body", [
    "x" * 490 + KEY, {"error": {"message": "x" * 495 + KEY}}, {"detail": ["x" * 480, KEY]}])
def test_a_key_that_a_cut_goes_through_is_hidden_all_the_same(body: object) -> None:
    with pytest.raises(EngineFailed) as raised:
        ask(refuses(400, body))

    assert KEY[:3] not in str(raised.value)


def test_a_key_is_hidden_as_json_writes_it_too() -> None:
    key = 'sk-"odd\\key'
    with pytest.raises(EngineFailed) as raised:
        ask(refuses(400, {"detail": [key]}), openai_key=key)

    assert "odd" not in str(raised.value)


def test_no_error_tells_the_address_of_the_upstream() -> None:
    with upstream() as server:
        host = f"127.0.0.1:{server.server_port}"
        for words in (f"no worker at {server.url}", f"upstream {host} is down", "127.0.0.1 is down"):
            server.plays = [refuses(400, {"error": {"message": words}})]
            with engine_for(server.url) as engine, pytest.raises(EngineFailed) as raised:
                engine.generate(chat(), run_on)
            assert "127.0.0.1" not in str(raised.value)
            assert "(its address)" in str(raised.value)


def test_the_log_tells_which_upstream_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with upstream(refuses(500, {})) as server, engine_for(
            server.url, openai_retry_s=NO_RETRY, openai_breaker_faults=1) as engine, pytest.raises(TandemError):
        engine.generate(chat(), run_on)

    (record,) = (record for record in caplog.records if record.getMessage() == "upstream_left_alone")
    assert vars(record)["fields"]["url"] == server.url


def test_nothing_of_the_environment_is_sent_or_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"OPENAI_ORG_ID": "org-secret", "OPENAI_PROJECT_ID": "proj-secret", "OPENAI_ADMIN_KEY": "admin-secret",
               "OPENAI_API_KEY": "api-secret",
               "OPENAI_CUSTOM_HEADERS": "X-Other: other-secret\nAuthorization: Bearer secret",
               "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    with upstream(WELL) as server, engine_for(server.url, openai_model="") as engine:
        assert engine.generate(chat(), run_on).text == "all well"

    assert [headers["authorization"] for _, headers, _ in server.asked] == [f"Bearer {KEY}"] * 2
    assert "secret" not in str([headers for _, headers, _ in server.asked]).replace(KEY, "")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with upstream(WELL) as other, upstream(refuses(status, "", Location=f"{other.url}/chat/completions")) as server, \
            engine_for(server.url) as engine:
        with pytest.raises(EngineFailed, match=f"answered {status}.*redirects are not followed"):
            engine.generate(chat(), run_on)
        assert other.asked == []
