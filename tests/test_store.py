"""Redis is opened by any of its URLs, and one that hangs does not hang us. Failover through Sentinels is in the second
half, with a real one."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu import Connection

from app.errors import SettingsError, StoreUnavailable
from app.job import Service, State
from app.ledger import Ledger, Settled
from app.settings import Settings
from app.store import open_redis
from ops import embedded_redis
from ops.embedded_redis import EmbeddedRedis, free_port, start
from ops.sandbox import kill
from ops.waiting import wait_until
from tests.model_ledger import a_job, a_running_job
from workers.application import broker_url, make_app

BRIEF_S = 0.2  # the timeout of these tests


def opened(url: str, **settings: float) -> redis.Redis:
    return open_redis(Settings(redis_url=url, **settings))  # type: ignore[arg-type]


# -- by URL


def test_without_a_url_the_remedies_are_said() -> None:
    with pytest.raises(SettingsError, match="set TANDEM_REDIS_URL, or run `make up`"):
        opened("")


def test_a_redis_is_opened_by_host_port_and_database(redis_server: EmbeddedRedis) -> None:
    with opened(f"redis://127.0.0.1:{redis_server.port}/3") as client:
        assert client.client_info()["db"] == 3


def test_a_redis_is_opened_by_its_unix_socket(tmp_path: Path) -> None:
    short = Path(tempfile.mkdtemp())  # Redis shows the first 77 characters of a path
    path = short / "redis.sock"
    process = subprocess.Popen([
        *embedded_redis.command(tmp_path, port=free_port(), program=embedded_redis.find_program(), log=tmp_path / "log"),
        "--unixsocket", str(path)])
    try:
        wait_until(path.exists, timeout_s=10, what="the socket to appear")
        with opened(f"unix://{path}?db=2") as client:
            assert client.client_info()["addr"].startswith(str(path))
            assert client.client_info()["db"] == 2
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(short)


@pytest.mark.parametrize("url", ["redis://h", "rediss://h:1/2", "unix:///s", "sentinel://h:1/0"])
def test_every_client_has_timeouts_and_a_longer_one_on_request(url: str) -> None:
    usual = opened(url, redis_timeout_s=3.0).connection_pool.connection_kwargs
    longer = open_redis(Settings(redis_url=url, redis_timeout_s=3.0), timeout_s=5.0).connection_pool.connection_kwargs

    assert (usual["socket_timeout"], usual["socket_connect_timeout"]) == (3.0, 3.0)
    assert (longer["socket_timeout"], longer["socket_connect_timeout"]) == (5.0, 3.0)


# -- one that hangs


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that answered once, and is then stopped: the system still accepts connections for it."""
    server = start(tmp_path / "hung", fsync="no")
    kill(server.process.pid, signal.SIGSTOP)
    yield server
    kill(server.process.pid, signal.SIGCONT)
    server.stop()


@pytest.fixture
def unreachable() -> Iterator[int]:
    """A port that takes no connections, nor refuses any: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with socket.create_connection(listener.getsockname()):
            yield listener.getsockname()[1]


def failing(client: redis.Redis) -> float:
    """Return how long a call takes to fail."""
    begun = time.monotonic()
    with pytest.raises((redis.exceptions.TimeoutError, redis.exceptions.ConnectionError)):
        client.get("k")
    return time.monotonic() - begun


def test_a_redis_that_hangs_fails_a_call_within_a_few_timeouts(hung: EmbeddedRedis) -> None:
    assert BRIEF_S <= failing(opened(hung.url, redis_timeout_s=BRIEF_S)) < 6 * BRIEF_S


def test_a_redis_that_takes_no_connection_fails_a_call_within_a_few_timeouts(unreachable: int) -> None:
    assert BRIEF_S <= failing(opened(f"redis://127.0.0.1:{unreachable}", redis_timeout_s=BRIEF_S)) < 6 * BRIEF_S


def test_a_redis_that_is_down_fails_a_call_at_once() -> None:
    assert failing(opened(f"redis://127.0.0.1:{free_port()}")) < 2


def test_a_redis_that_comes_round_is_used_again_by_the_same_client(hung: EmbeddedRedis) -> None:
    client = opened(hung.url, redis_timeout_s=BRIEF_S)
    failing(client)

    kill(hung.process.pid, signal.SIGCONT)
    wait_until(lambda: works(client.ping), timeout_s=10, what="the client to reach Redis again")


def works(call: Callable[[], object]) -> bool:
    """Tell whether a call of Redis goes through."""
    try:
        call()
    except (redis.exceptions.RedisError, StoreUnavailable):
        return False
    return True


# -- through Sentinels


@dataclass(frozen=True, slots=True)
class Pair:
    """A master and its replica under a Sentinel that calls them "jobs"."""

    master: EmbeddedRedis
    replica: EmbeddedRedis
    port: int  # of the Sentinel

    @property
    def settings(self) -> Settings:
        return Settings(redis_url=f"sentinel://127.0.0.1:{self.port}/0", redis_master_name="jobs", redis_timeout_s=1.0)

    def lose_master(self, how: str) -> None:
        """Have the master die, or step down for the replica, once that has everything."""
        master, replica, sentinel = (redis.Redis(port=port) for port in (self.master.port, self.replica.port, self.port))
        with master, replica, sentinel:
            assert master.wait(1, 5000) == 1
            if how == "dies":
                kill(self.master.process.pid)
                return
            # at first the Sentinel may not have asked the replica yet how far it is
            wait_until(lambda: works(lambda: sentinel.execute_command("SENTINEL", "FAILOVER", "jobs")), timeout_s=20,
                       what="the Sentinel to begin a failover")
            wait_until(lambda: replica.info("replication")["role"] == "master", timeout_s=20, what="the promotion")
            master.replicaof("127.0.0.1", self.replica.port)  # as the Sentinel would, ten seconds later


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    master, replica = (start(tmp_path / name, fsync="no") for name in ("master", "replica"))
    with redis.Redis(port=master.port) as client:
        client.config_set("repl-diskless-sync-delay", 0)
    with redis.Redis(port=replica.port) as client:
        client.replicaof("127.0.0.1", master.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", timeout_s=20, what="the replica")
    port = free_port()
    sentinel = start_sentinel(tmp_path / "sentinel", port, master)
    yield Pair(master, replica, port)
    for process in (sentinel, replica.process, master.process):
        process.kill()
        process.wait()


def start_sentinel(folder: Path, port: int, master: EmbeddedRedis) -> "subprocess.Popen[bytes]":
    """Start a Sentinel of one, which decides alone, and wait until it knows the replica."""
    folder.mkdir()
    (folder / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/log\n"
        f"sentinel monitor jobs 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds jobs 1000\nsentinel failover-timeout jobs 4000\n")
    process = subprocess.Popen([embedded_redis.find_program(), str(folder / "sentinel.conf"), "--sentinel"])

    def knows_the_replica() -> bool:
        with redis.Redis(port=port) as sentinel:
            return works(sentinel.ping) and len(sentinel.sentinel_slaves("jobs")) == 1

    wait_until(knows_the_replica, timeout_s=20, what="the Sentinel to know the replica")
    return process


@pytest.mark.parametrize("how", ["dies", "steps down"])
def test_the_ledger_follows_the_sentinels_to_the_promoted_replica(pair: Pair, how: str) -> None:
    client = open_redis(pair.settings)
    ledger = Ledger(client, pair.settings)
    claim = a_running_job(ledger)
    waiting = ledger.submit(a_job()).job_id
    assert client.config_get("port") == {"port": str(pair.master.port)}

    pair.lose_master(how)

    wait_until(lambda: works(lambda: ledger.settle(claim, State.SUCCEEDED)), timeout_s=30, what="the promoted replica")
    assert client.config_get("port") == {"port": str(pair.replica.port)}
    assert ledger.settle(claim, State.SUCCEEDED) is Settled.AGAIN
    assert (ledger.read(claim.id).state, ledger.read(waiting).state) == (State.SUCCEEDED, State.QUEUED)
    assert ledger.census().balanced
    assert ledger.census().counts["accepted"] == 2


def test_celery_consumes_what_the_ledger_pushed_before_and_after_a_failover(pair: Pair) -> None:
    app, ledger = make_app(pair.settings), Ledger(open_redis(pair.settings), pair.settings)
    before, kept = (ledger.submit(a_job(Service.MODEL)).job_id for _ in range(2))
    assert consumed(app) == before

    pair.lose_master("dies")

    wait_until(lambda: works(ledger.census), timeout_s=30, what="the promoted replica")
    assert consumed(app) == kept
    after = ledger.submit(a_job(Service.MODEL)).job_id
    assert consumed(app) == after


def consumed(app: Celery) -> str:
    """Take a message off Celery's queue of the model service, and return the id of its task."""
    connection: Connection
    with app.connection_for_read() as connection, connection.SimpleQueue(app.amqp.queues["model"], no_ack=True) as queue:
        return str(queue.get(timeout=10).headers["id"])


def test_celery_publishes_and_consumes_through_the_sentinels(pair: Pair) -> None:
    with make_app(pair.settings).connection_for_write() as connection, connection.SimpleQueue("letters") as queue:
        queue.put({"n": 1})
        message = queue.get(timeout=10)
        message.ack()
    assert message.payload == {"n": 1}


def test_a_sentinel_that_is_down_is_passed_over(pair: Pair) -> None:
    url = f"sentinel://127.0.0.1:{free_port()};{pair.settings.redis_url}"

    begun = time.monotonic()
    assert opened(url).ping()
    assert time.monotonic() - begun < 2


def test_a_master_that_the_sentinels_do_not_know_is_an_error_that_names_it(pair: Pair) -> None:
    client = open_redis(Settings(redis_url=pair.settings.redis_url, redis_master_name="other"))

    with pytest.raises(redis.exceptions.ConnectionError, match="No master found for 'other'"):
        client.ping()


@pytest.mark.parametrize("database", ["0", "3"])
def test_the_ledger_and_celery_mean_the_same_database(pair: Pair, database: str) -> None:
    url = f"sentinel://127.0.0.1:{pair.port}/{database};sentinel://127.0.0.1:{free_port()}/{database}"
    settings = Settings(redis_url=url, redis_master_name="jobs")
    job_id = Ledger(open_redis(settings), settings).submit(a_job(Service.MODEL)).job_id

    assert consumed(make_app(settings)) == job_id


@pytest.mark.parametrize("url", ["sentinel://a;sentinel://b/3", "sentinel://a/1;sentinel://b/2", "sentinel://a/jobs",
                                 "sentinel://a;b:26379", "sentinel://a;redis://b"])
def test_sentinels_that_are_not_all_given_the_same_way_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="each sentinel the same way, with the same database number"):
        opened(url)


def test_the_masters_user_and_password_are_those_of_the_url(pair: Pair) -> None:
    for port in (pair.master.port, pair.replica.port):
        with redis.Redis(port=port) as client:
            client.acl_setuser("ann", enabled=True, passwords=["+p@ss;word"], keys=["*"], commands=["+@all"])

    with opened(f"sentinel://ann:p%40ss%3Bword@127.0.0.1:{pair.port}/0") as client:
        assert client.acl_whoami() == "ann"


# -- the same address for Celery


@pytest.mark.parametrize(("ours", "kombus"), [
    ("redis://h:1/2", "redis://h:1/2"), ("sentinel://a/0;sentinel://b/0", "sentinel://a/0;sentinel://b/0"),
    ("unix:///run/r.sock", "redis+socket:///run/r.sock?virtual_host=0"),
    ("unix:///run/r.sock?db=3", "redis+socket:///run/r.sock?virtual_host=3"), ("", "memory://")])
def test_celery_gets_the_address_as_kombu_spells_it(ours: str, kombus: str) -> None:
    assert broker_url(ours) == kombus
