"""Where alerts are sent: what stands in the setting `alert_webhooks`.

A hook's URL is a secret (DingTalk's token, a chat's path), so nothing but `AlertHook.where` and `AlertHook.name` may be
shown, and `AlertHook.scrubbed` cleans what others say of it.
"""

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

_DINGTALK = "dingtalk+"
_PRINTABLE = re.compile(r"[!-~]+")
_SHORTEST_SECRET = 6  # shorter parts of a URL, as "send" or "v1", say nothing that must be hidden


class Form(StrEnum):
    """In which form a hook gets alerts."""

    JSON = "json"
    DINGTALK = "dingtalk"  # a custom robot of a DingTalk group


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertHook:
    """A hook of the setting."""

    index: int  # its place in the setting, from 0
    form: Form
    url: str = field(repr=False)  # to post to; of DingTalk's, without the secret that signs
    secret: str = field(default="", repr=False)  # DingTalk's, "SEC..."; empty: requests are not signed

    @property
    def name(self) -> str:
        """What the hook is kept under: it follows from the whole URL, and does not tell it."""
        return hashlib.sha256(f"{self.form} {self.url} {self.secret}".encode()).hexdigest()[:16]

    @property
    def where(self) -> str:
        """What may be shown of it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def scrubbed(self, text: str) -> str:
        """Return a text without what in it is the hook's secret."""
        parts = urlsplit(self.url)
        values = [value for _, value in parse_qsl(parts.query)]
        secrets = {self.url, self.secret, parts.path, parts.query, *parts.path.split("/"), *values}
        secrets |= {unquote(each) for each in secrets}
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text


def are_hooks(text: str) -> bool:
    """Whether the setting can be read."""
    try:
        read_hooks(text)
    except ValueError:
        return False
    return True


def read_hooks(text: str) -> tuple[AlertHook, ...]:
    """Return the hooks of the setting. Raises `ValueError`, which repeats nothing of it."""
    hooks = tuple(_hook(index, url) for index, url in enumerate(text.split()))
    if len({hook.name for hook in hooks}) < len(hooks):
        raise ValueError("names a hook twice")
    return hooks


def _hook(index: int, text: str) -> AlertHook:
    form = Form.DINGTALK if text.startswith(_DINGTALK) else Form.JSON
    url = text.removeprefix(_DINGTALK)
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or not _PRINTABLE.fullmatch(url) or "@" in parts.netloc or parts.fragment:
        raise ValueError("holds what is no URL of a hook")
    if form is Form.JSON:
        return AlertHook(index=index, form=form, url=url)
    return _dingtalk(index, parts)


def _dingtalk(index: int, parts: SplitResult) -> AlertHook:
    query = parse_qsl(parts.query, keep_blank_values=True)
    given = dict(query)
    if not given.get("access_token") or given.get("secret", "SEC") == "":
        raise ValueError("holds a DingTalk robot without a token, or with an empty secret")
    rest = urlencode([pair for pair in query if pair[0] != "secret"])
    return AlertHook(index=index, form=Form.DINGTALK, url=urlunsplit(parts._replace(query=rest)),
                     secret=given.get("secret", ""))
