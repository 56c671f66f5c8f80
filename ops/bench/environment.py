"""A peer's virtual environment: made on first use, made anew when its requirements change."""

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ops.bench.errors import NotInstalled

_PEERS = Path(__file__).parent / "peers"
_INSTALL_S = 600
_SHARED = ("flask", "werkzeug", "gunicorn", "gunicorn_h1c", "gevent", "redis", "hiredis", "celery", "kombu")


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment of the peer `name`, under `home`."""

    name: str
    home: Path

    @property
    def code(self) -> Path:
        """Where the peer's own code lies."""
        return _PEERS / self.name

    @property
    def pins(self) -> dict[str, str]:
        """Package -> version, as pinned; names in lower case."""
        text = (self.code / "requirements.txt").read_text(encoding="utf-8")
        return {name.lower(): version for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)$", text)}

    def program(self, name: str) -> str:
        """The path of a program in the environment."""
        return str((self.home / self.name / "bin" / name).absolute())

    def prepare(self) -> None:
        """Install it, unless it is there. Raises `NotInstalled`."""
        self._check_pins()
        wanted = hashlib.sha256((self.code / "requirements.txt").read_bytes() + sys.version.encode()).hexdigest()
        folder = self.home / self.name
        stamp = folder / "installed"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"installing {self.name}'s packages (once)", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        self._run(sys.executable, "-m", "venv", str(folder))
        self._run(self.program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                  "--requirement", str(self.code / "requirements.txt"))
        stamp.write_text(wanted)

    def _check_pins(self) -> None:
        """A peer must not gain or lose by another version of what it shares with Tandem."""
        pins = self.pins
        differing = [f"{name} {pins[name]} (Tandem: {ours})" for name in _SHARED
                     if name in pins and (ours := metadata.version(name)) != pins[name]]
        if differing:
            raise NotInstalled(f"{self.name} pins other versions than Tandem: {', '.join(differing)}; "
                               f"change ops/bench/peers/{self.name}/requirements.txt")

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_S)
        if done.returncode:
            raise NotInstalled(f"the environment of {self.name} could not be made; pip needs its package index for that, "
                               f"once. It said: {done.stderr[-500:]}")
