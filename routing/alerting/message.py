"""A message about alerts, in the forms that hooks take. Pure: a message that is sent again is the same, but for DingTalk's
signature."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import msgspec

from app.alert_hooks import AlertHook, Form
from app.job import timestamp
from routing.alerting import telling
from routing.alerting.telling import Telling

#: Bytes of a DingTalk message, body and all.
DINGTALK_MOST_BYTES = 20_000

_GAP = "Alerts before these may be missing: more came than are kept while nobody could be told."


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is told to a hook at a time. It has the same id whenever it is sent, so a receiver can drop the second."""

    id: str
    at_ms: int
    stack: Mapping[str, Any]  # which stack it comes from
    tellings: Sequence[Telling]
    gap: bool = False  # alerts before may be missing


def request(hook: AlertHook, message: Message, *, now_ms: int) -> tuple[str, dict[str, str], bytes]:
    """Return the URL, the headers and the body that tell a message."""
    headers = {"content-type": "application/json; charset=utf-8", "user-agent": "Tandem", "webhook-id": message.id,
               "webhook-timestamp": str(now_ms // 1000)}
    if hook.form is Form.DINGTALK:
        return _signed(hook, now_ms), headers, _markdown(message)
    return hook.url, headers, _plain(message)


def _plain(message: Message) -> bytes:
    said = [telling.title(message.tellings), *telling.lines(message.tellings), *_gap(message)]
    return msgspec.json.encode({
        "id": message.id, "at": timestamp(message.at_ms), "stack": message.stack, "gap": message.gap,
        "alerts": [telling.record(each) for each in message.tellings], "text": "\n".join(said)})


def _gap(message: Message) -> list[str]:
    return [_GAP] if message.gap else []


def _markdown(message: Message) -> bytes:
    """Return a message of DingTalk's type `markdown`: a line for each alert, or, where that is too long, for each kind of
    alert, and as much of that as there is room for."""
    for lines in (telling.lines(message.tellings), telling.short_lines(message.tellings)):
        if len(body := _markdown_of(message, lines)) <= DINGTALK_MOST_BYTES:
            return body
    bare = _markdown_of(message, [])
    room = DINGTALK_MOST_BYTES - len(bare) - 200
    return _markdown_of(message, [*_cut(lines, room), "More than fits here: `celery -A workers route history` has it all"])


def _markdown_of(message: Message, lines: Sequence[str]) -> bytes:
    title = telling.title(message.tellings)
    where = ", ".join(f"{name} {value}" for name, value in message.stack.items() if isinstance(value, str))
    text = "\n".join([f"#### {title}", "", *(f"- {line}" for line in [*lines, *_gap(message)]), "",
                      f"> {where}; {timestamp(message.at_ms)}; message {message.id}"])
    return msgspec.json.encode({"msgtype": "markdown", "markdown": {"title": title, "text": text}})


def _cut(lines: Sequence[str], room: int) -> list[str]:
    """Return the beginnings of lines that fit into so many bytes of JSON, each with as much."""
    share = room // len(lines) - len(b"- \\n ...")
    return [line if len(line.encode()) <= share else line.encode()[:max(share, 0)].decode(errors="ignore") + " ..."
            for line in lines]


def _signed(hook: AlertHook, now_ms: int) -> str:
    """Return the URL with DingTalk's signature: the base64 of the HMAC-SHA256, under the secret, of the time in ms, a line
    feed and the secret; good for an hour. https://open.dingtalk.com/document/robots/customize-robot-security-settings
    """
    if not hook.secret:
        return hook.url
    digest = hmac.digest(hook.secret.encode(), f"{now_ms}\n{hook.secret}".encode(), hashlib.sha256)
    return f"{hook.url}&timestamp={now_ms}&sign={quote_plus(base64.b64encode(digest))}"
