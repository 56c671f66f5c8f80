"""One HTTP call, as the clients of the benchmark make it again and again."""

import http.client
import json
from dataclasses import dataclass
from typing import Any

from app.topology import Address
from ops.bench.errors import NotAsPromised

_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, and the status that answers it when all is well."""

    method: str
    path: str
    expects: int
    body: str = ""
    token: str = ""

    def headers(self) -> dict[str, str]:
        """The headers beside Host and Content-Length, which each client writes itself."""
        headers = {"Content-Type": "application/json"} if self.body else {}
        return headers | ({"Authorization": f"Bearer {self.token}"} if self.token else {})

    def raw(self, address: Address) -> bytes:
        """The request as it goes over the wire."""
        headers = {"Host": str(address), "Content-Length": str(len(self.body.encode())), **self.headers()}
        if not self.body:
            del headers["Content-Length"]
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n" + self.body).encode()

    def once(self, address: Address) -> dict[str, Any]:
        """Make the call and return the answer. Raises `NotAsPromised` for another status than the expected."""
        connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_S)
        try:
            connection.request(self.method, self.path, self.body or None, self.headers())
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != self.expects:
            raise NotAsPromised(f"{self.method} {self.path} answered {answer.status} instead of {self.expects}: "
                                f"{text[:300].decode(errors='replace')}")
        return dict(json.loads(text))
