"""What raises a server's signals for real: busy loops on its CPUs, memory that it has no room for, and a model server
behind it that is broken."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from app.errors import TandemError
from ops.waiting import wait_until

_BURN = "while True: pass"
_FILL = ("import sys; sys.stdin.readline(); held = b'x' * int(sys.argv[1]); print('held', flush=True); "
         "sys.stdin.readline()")
_FILLED_S = 30.0
_ROUND_S = 0.05  # how often the model server looks whether it is to end


class NoRoom(TandemError):
    """No memory group can be made here."""


@contextmanager
def burning(cpus: Sequence[int]) -> Iterator[None]:
    """Keep these CPUs busy: a process in a loop on each."""
    loops = [subprocess.Popen(["taskset", "--cpu-list", str(cpu), sys.executable, "-c", _BURN]) for cpu in cpus]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


class MemoryRoom:
    """A memory group of the kernel's with a limit, in the group that this process is in, for a server's processes."""

    def __init__(self, folder: Path, home: Path, limit: str, used: str) -> None:
        self._folder, self._home, self._limit, self._used = folder, home, limit, used

    @classmethod
    @contextmanager
    def of(cls, name: str, pids: Sequence[int], limit_bytes: int) -> Iterator["MemoryRoom"]:
        """Put processes into a new group, as long as the block takes. Raises `NoRoom` where that cannot be done."""
        room = cls._made(name, limit_bytes)
        try:
            for pid in pids:
                room.take(pid)
            yield room
        finally:
            room._close()

    @classmethod
    def _made(cls, name: str, limit_bytes: int) -> "MemoryRoom":
        home, limit, used = _own_group()
        room = cls(home / name, home, limit, used)
        try:
            room._folder.mkdir()
            (room._folder / limit).write_text(str(limit_bytes))
        except OSError as exc:
            with contextlib.suppress(OSError):
                room._folder.rmdir()
            raise NoRoom(f"no memory group can be made in {home} ({exc.strerror}); run the drill as root") from exc
        return room

    def take(self, pid: int) -> None:
        """Put a process into the group. What it allocates from now on counts here."""
        with contextlib.suppress(ProcessLookupError):
            (self._folder / "cgroup.procs").write_text(str(pid))

    def used_bytes(self) -> int:
        """What is in use in the group."""
        return int((self._folder / self._used).read_text())

    def _close(self) -> None:
        def empty() -> bool:
            for pid in (self._folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    (self._home / "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                self._folder.rmdir()
            return not self._folder.exists()

        wait_until(empty, timeout_s=_FILLED_S, what=f"the processes to leave {self._folder}")


def _own_group() -> tuple[Path, str, str]:
    """Return this process's memory group, and the names of its files for the limit and for what is used: of version 1, else
    of version 2 (cgroups(7))."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/"), "memory.limit_in_bytes", "memory.usage_in_bytes"
        if controllers == "" and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path("/sys/fs/cgroup") / path.lstrip("/"), "memory.max", "memory.current"
    raise NoRoom("this machine has no memory groups")


@contextmanager
def filling(held_bytes: int, room: MemoryRoom | None = None) -> Iterator[None]:
    """Hold so much memory, every page of it touched, by a process in that room."""
    ballast = subprocess.Popen([sys.executable, "-c", _FILL, str(held_bytes)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert ballast.stdin
    assert ballast.stdout
    try:
        if room:
            room.take(ballast.pid)
        ballast.stdin.write("\n")
        ballast.stdin.flush()
        if ballast.stdout.readline() != "held\n":
            raise NoRoom(f"{held_bytes} bytes of ballast could not be held")
        yield
    finally:
        ballast.kill()
        ballast.wait()
        ballast.stdin.close()
        ballast.stdout.close()


class ModelServer(ThreadingHTTPServer):
    """A server that speaks OpenAI's protocol and answers every prompt by `well`, or by 500 while it `is_broken`."""

    daemon_threads = True
    is_broken = False

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["ModelServer"]:
        """One on a free port of loopback."""
        server = cls(("127.0.0.1", 0), _Exchange)
        thread = threading.Thread(target=server.serve_forever, args=(_ROUND_S,), name="drill-model-server")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Exchange(BaseHTTPRequestHandler):
    server: ModelServer

    def do_GET(self) -> None:
        self._answer(200, {"object": "list", "data": [{"id": "drill", "object": "model"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.is_broken:
            self._answer(500, {"error": {"message": "the GPU has fallen off the bus"}})
            return
        pieces = [{"model": "drill", "choices": [{"index": 0, "text": "well", "delta": {"content": "well"},
                                                  "finish_reason": "stop"}]},
                  {"model": "drill", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}]
        text = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
        self._send(200, "text/event-stream", text.encode())

    def _answer(self, status: int, document: object) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep silent."""


@contextmanager
def in_place_of(pid: int, stop: Sequence[str], start: Sequence[str], log: Path, **environment: str) -> Iterator[int]:
    """Stop a supervised process by the command `stop` and run it with another environment, as long as the block takes;
    then have it back by `start`. Give the pid of the one that runs meanwhile."""
    folder = Path(f"/proc/{pid}")
    command = [part.decode() for part in (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")]
    pairs = [part.decode().partition("=") for part in (folder / "environ").read_bytes().split(b"\0") if part]
    cpus = os.sched_getaffinity(pid)
    _run(stop)
    with log.open("ab") as out:
        other = subprocess.Popen(command, env={name: value for name, _, value in pairs} | environment, stdout=out,
                                 stderr=out, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    try:
        yield other.pid
    finally:
        other.terminate()
        other.wait()
        _run(start)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
