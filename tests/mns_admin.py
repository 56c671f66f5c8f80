"""Asks the admin port of a local MNS server."""

import json
import urllib.request
from typing import Any


def ask(port: int, path: str, body: Any = None, *, method: str | None = None, **headers: str) -> Any:
    """Return the answer. Raises `urllib.error.HTTPError` where it is an error."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method or ("GET" if body is None else "POST"),
                                     data=None if body is None else json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())
