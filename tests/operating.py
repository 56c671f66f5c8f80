"""Operators' commands, run within the tests' process.

`Sandbox.celery` runs the same command as a process of its own, as an operator does; most of its 2 seconds are Python's
imports. Where the process is not the point, `operate` runs the command's code with the stack's settings, and returns what
the process would have. The app that `-A` names is not loaded here, so only Tandem's own commands can be run.
"""

import subprocess
from importlib.metadata import entry_points
from types import SimpleNamespace

from click.testing import CliRunner

from app import topology
from ops.sandbox import Sandbox


def operate(stack: Sandbox, name: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of Tandem's (`users`, `keys`, `limits`, ...) on a stack and return what became of it. Raises what the
    command does not catch, where the process would end with a traceback."""
    (command,) = (entry.load() for entry in entry_points(group="celery.commands", name=name))
    settings, _ = topology.load(stack.environ)
    done = CliRunner().invoke(command, arguments, input=stdin, obj=SimpleNamespace(app=SimpleNamespace(
        tandem_settings=settings)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess([name, *arguments], done.exit_code, done.stdout, done.stderr)
