"""Access keys of the RAM role of the ECS instance that this runs on, from the instance's metadata server.

The protocol, in the hardened mode only ("IMDSv2"): a PUT gets a session token, with which the role's name and then its
temporary keys are read (https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata and
https://help.aliyun.com/zh/ecs/user-guide/obtain-a-temporary-authorization-token). The keys live for hours and the server
has new ones well before the old ones end, so they are fetched ten minutes before that.
"""

import http.client
import json
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from routing.mns.keys import Credentials, Refreshing, RoleUnavailable, fault, unix_time

#: Where each ECS instance finds its metadata server.
METADATA_URL = "http://100.100.100.200"

_TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
_ROLE_PATH = "/latest/meta-data/ram/security-credentials/"
_PARTS = ("AccessKeyId", "AccessKeySecret", "SecurityToken")
_TOKEN_LIFE_S = 60  # it is used at once
_MOST_BYTES = 65536  # of an answer; the keys take about 1 KB
_TIMEOUT_S = 2.0  # the server is on the same host; elsewhere there is none, and nobody should wait for it


class RoleProvider(Refreshing):
    """The keys of the instance's role; `role` saves asking for its name."""

    margin_s = 600.0
    pause_s = 10.0

    def __init__(self, *, role: str = "", url: str = METADATA_URL, now: Callable[[], float] = time.time,
                 timeout_s: float = _TIMEOUT_S) -> None:
        super().__init__(now)
        self._role, self._url, self._timeout_s = role, url, timeout_s

    def __repr__(self) -> str:
        return f"ECS instance role by {self._url}"

    def fetch(self) -> Credentials:
        """Ask the metadata server. Raises RoleUnavailable."""
        session = {"X-aliyun-ecs-metadata-token": self._ask(
            "PUT", _TOKEN_PATH, {"X-aliyun-ecs-metadata-token-ttl-seconds": str(_TOKEN_LIFE_S)}).strip()}
        role = self._role or self._ask("GET", _ROLE_PATH, session).strip()
        if not role or "\n" in role:
            raise RoleUnavailable(f"{self}: the metadata server names no role; attach a RAM role to the instance")
        return self._keys(role, self._ask("GET", _ROLE_PATH + quote(role, safe=""), session))

    def _keys(self, role: str, answer: str) -> Credentials:
        try:
            keys = json.loads(answer)
        except ValueError:
            keys = None  # not chained: the exception carries the answer
        if not isinstance(keys, dict):
            raise RoleUnavailable(f"{self}: the answer for the role {role} is not a JSON object")
        faults = [found for name in _PARTS if (found := fault(name, keys.get(name)))]
        if keys.get("Code") != "Success":
            faults.insert(0, f"Code is {keys.get('Code')!r}")
        try:
            expires_at = unix_time(keys.get("Expiration"))
        except ValueError:
            faults.append("Expiration is not a time")
        if faults:
            raise RoleUnavailable(f"{self}: no keys for the role {role}: {'; '.join(faults)}")
        key_id, secret, token = (keys[name] for name in _PARTS)
        return Credentials(key_id, secret, token, expires_at=expires_at)

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> str:
        # http.client, as it knows neither proxies nor redirects: keys must come from this server or not at all
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=self._timeout_s)
        try:
            connection.request(method, path, headers=headers)
            with connection.getresponse() as response:
                status, body = response.status, response.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException) as exc:
            raise RoleUnavailable(f"{self}: no answer to {method} {path} within {self._timeout_s:g} s "
                                  f"({type(exc).__name__}); is this an ECS instance?") from exc
        finally:
            connection.close()
        if status == http.HTTPStatus.NOT_FOUND and path.startswith(_ROLE_PATH):
            raise RoleUnavailable(f"{self}: the instance has no such RAM role ({path}); attach one to it")
        if status != http.HTTPStatus.OK:
            raise RoleUnavailable(f"{self}: status {status} for {method} {path}")
        return body.decode("utf-8", errors="replace")
