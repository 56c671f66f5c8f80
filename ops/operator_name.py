"""Who an operator is, for what is kept of their changes."""

import os
import pwd
import socket


def operator_name() -> str:
    """Return the user who gives a command, the one behind sudo if that was used, and on which machine."""
    return f"{os.environ.get('SUDO_USER') or _user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that nobody has
        return str(os.getuid())
