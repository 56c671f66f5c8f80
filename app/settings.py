"""Settings: read once, at start, from the environment (`TANDEM_*`) over the [settings] table of the topology file.

A bad value or a name nobody knows refuses to start, and every fault is listed at once (`SettingsError`). Everything else
in Tandem is handed a `Settings`; nothing else reads the environment.
"""

import difflib
import os
import re
import typing
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from app.alert_hooks import are_hooks
from app.errors import SettingsError

PREFIX = "TANDEM_"

#: Settings that no message may show.
_SECRETS = {"openai_key", "metrics_token", "cache_url", "alert_webhooks",
            "mns_url"}  # only if somebody puts a key into it

#: Variables with the prefix that are not settings: they say where to find them, or are for the Makefile.
NOT_SETTINGS = {"TANDEM_TOPOLOGY", "TANDEM_PROFILE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, with its default. The comment says what it means; names carry their units."""

    redis_url: str = ""  # redis://, rediss://, unix:// or sentinel://host:port[;sentinel://...]/db; empty: embedded
    redis_master_name: str = "jobs"  # the master's name, for sentinel:// URLs
    redis_program: str = ""  # the embedded server's program; empty: from PATH, else the bundled one
    redis_timeout_s: float = 3.0  # a Redis that does not answer for this long counts as unreachable
    data_dir: Path = Path("var")  # models, secrets, logs, the embedded Redis's files
    engine: str = "torch"  # torch, openai or scripted
    model: str = ""  # a folder, a .gguf file or a hub name; empty: the demo model
    dtype: str = "auto"  # auto (bfloat16 where the device is fast at it), float32, bfloat16 or float16
    kv_memory_mb: int = 0  # for keys and values of running and past requests; unset: a part of the memory that is free
    trust_remote_code: bool = False  # run Python code that comes with a model; leave off
    openai_url: str = ""  # for engine openai: a server that speaks OpenAI's protocol, e.g. http://gpu-1:8000/v1
    openai_key: str = field(default="", repr=False)  # the key it asks for; empty: none
    openai_model: str = ""  # the model's name there; empty: the first one that it lists
    openai_connect_s: float = 5.0  # a connection to it that takes longer has failed
    openai_silence_s: float = 120.0  # the longest wait for its next piece of an answer, the first included
    openai_retry_s: float = 30.0  # after this time no other call is made for an attempt; no less than the cooldown
    openai_breaker_faults: int = 5  # after so many faults of it in a row it is left alone
    openai_breaker_cooldown_s: float = 10.0  # for so long; then one request tries it
    server: str = ""  # which server of the topology this process belongs to; set by ops.server
    lease_s: float = 10.0  # a running job whose worker is silent this long is given to another
    beat_s: float = 2.0  # how often a worker renews its leases
    max_attempts: int = 3  # attempts that end in a retryable error before the job fails
    max_lost: int = 3  # attempts that lose their worker before the job fails
    retry_delay_s: float = 1.0  # wait before the second attempt after a retryable error; doubles each time
    recovery_s: float = 0.5  # how often the recovery task looks
    stuck_s: float = 30.0  # an idle worker that claims nothing this long while jobs wait is restarted
    retention_s: float = 86_400.0  # how long an ended job can be read
    tombstone_s: float = 604_800.0  # how long after that its id answers 410 instead of 404
    idempotency_s: float = 86_400.0  # how long an idempotency key is remembered
    requests_per_minute: int = 0  # jobs that a tenant may submit; unset: any number. An account's own limits come before
    tokens_per_minute: int = 0  # that a tenant's jobs may cost; unset: any number
    jobs_in_flight: int = 0  # live jobs that a tenant may have; unset: any number
    cache: bool = True  # keep the answers to deterministic requests, and answer the same requests at once by one run
    cache_shared: bool = False  # among all tenants; else each has its own
    cache_url: str = field(default="", repr=False)  # redis://, rediss://, unix://, redis-cluster://host:port[;host:port...]
    # or rediss-cluster://, for answers and the cache service's values; empty: the main Redis
    cache_ttl_s: float = 3600.0  # how long an answer is kept
    cache_max_bytes: int = 268_435_456  # of answers, where they lie on the main Redis; elsewhere its maxmemory bounds them
    cache_entry_bytes: int = 1_048_576  # a longer answer is not kept
    cache_timeout_s: float = 0.25  # a cache that does not answer for this long is passed by
    titles: bool = True  # have the model give each conversation a title, in the batch lane, after its first answer
    max_body_bytes: int = 1_048_576  # larger requests are refused
    body_s: float = 30.0  # a request's body that has not come by then is given up
    metrics_token: str = field(default="", repr=False)  # a scraper's bearer token for /metrics; empty: an operator's key
    max_wait_s: float = 60.0  # the longest `Prefer: wait`
    access_token_s: float = 900.0  # life of an access token
    refresh_token_s: float = 2_592_000.0  # a session that is not refreshed for so long ends
    login_attempts: int = 10  # failed logins for one account from one address, in login_window_s
    login_account_attempts: int = 50  # for one account from all addresses that it never logged in from
    login_address_attempts: int = 100  # from one address, for all accounts
    login_window_s: float = 300.0  # after which failed logins are forgotten
    trusted_proxies: int = 0  # proxies before the gateway that set X-Forwarded-For; unset: the header is not believed
    webhook_private: bool = False  # webhooks may go to private, loopback and link-local addresses
    webhook_attempts: int = 9  # deliveries of a webhook that fail before it is put aside; the last after a day or so
    webhook_retry_s: float = 5.0  # wait before the second attempt at a delivery; five times as long each time, to 12 h
    webhook_timeout_s: float = 15.0  # a receiver that has not answered in this time has failed
    webhook_dead_s: float = 604_800.0  # how long a webhook that was put aside can be read and replayed
    topic_s: float = 604_800.0  # how long a topic of the queue service keeps a message
    mns_url: str = ""  # of Alibaba MNS: mns://host[:port] (HTTP) or mnss://host[:port] (HTTPS); empty: none
    mns_credentials: str = ""  # a JSON file with access_key_id, access_key_secret and, for STS, security_token; it is read
    # again when it changes. Empty: ALIBABA_CLOUD_ACCESS_KEY_ID and the like from the environment, else the ECS role
    mns_prefix: str = "tandem"  # the names of our queues there begin with it
    mns_create_queues: bool = True  # make queues that are missing; off for a RAM user who may not
    mns_visibility_s: float = 40.0  # a message whose taker falls silent goes to another after so long; below cloud_lease_s
    cloud_store: str = ""  # for bodies over 64 KB: oss://bucket/prefix?region=... or file:///folder; empty: such jobs stay
    cloud_wait_s: float = 120.0  # a job sent to the cloud that no worker there has begun by then comes home
    cloud_lease_s: float = 60.0  # a job begun in the cloud that is not heard of for so long comes home
    cloud_beat_s: float = 5.0  # how often a cloud worker says that it, and each of its jobs, lives
    cloud_say_s: float = 0.25  # how long a cloud worker gathers what its jobs say before it sends it
    routing: bool = True  # act on the thresholds; off: signals, levels and alerts are shown, and nothing is moved
    alert_webhooks: str = field(default="", repr=False)  # where alerts are sent, space between: https://... gets plain
    # JSON, dingtalk+https://oapi.dingtalk.com/robot/send?access_token=... DingTalk's form
    scale_command: str = ""  # is run with the number of cloud workers that there should be; empty: they run here
    shutdown_s: float = 30.0  # a stopping worker lets its jobs run this long, then hands them back
    log_level: str = "INFO"  # DEBUG, INFO, WARNING or ERROR


#: A host and a port, of a server in a cluster's URL.
_ADDRESS = r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"

_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "engine": (lambda v: v in ("torch", "openai", "scripted"), "must be torch, openai or scripted"),
    "openai_url": (lambda v: not v or _is_base_url(v),
                   "must be a base URL, as http://host:8000/v1, without a user, a password or a query"),
    "openai_key": (lambda v: re.fullmatch(r"[!-~]*", v) is not None, "must be printable ASCII without spaces"),
    "metrics_token": (lambda v: not v or re.fullmatch(r"[!-~]{16,}", v) is not None,
                      "must be at least 16 printable ASCII characters without spaces"),
    "dtype": (lambda v: v in ("auto", "float32", "bfloat16", "float16"), "must be auto, float32, bfloat16 or float16"),
    "mns_url": (lambda v: not v or _is_mns_url(v), "must be as mns://host:port or mnss://host, without a user or a "
                "password: those come from mns_credentials or the environment"),
    "mns_prefix": (lambda v: re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}", v) is not None,
                   "must be 1 to 40 letters, digits and '-', and begin with a letter or a digit"),
    "cloud_store": (lambda v: not v or re.match(r"(oss://[a-z0-9]|file:///)", v) is not None,
                    "must start with oss://BUCKET or file:///"),
    "alert_webhooks": (are_hooks, "must be URLs with a space between, each once: http(s)://host/path for plain JSON, or "
                       "dingtalk+https://oapi.dingtalk.com/robot/send?access_token=TOKEN, and &secret=SEC... where the "
                       "robot asks for a signature; none with a user, a password or a fragment"),
    "log_level": (lambda v: v in ("DEBUG", "INFO", "WARNING", "ERROR"), "must be DEBUG, INFO, WARNING or ERROR"),
    "redis_url": (
        lambda v: not v or v.startswith(("redis://", "rediss://", "unix://", "sentinel://")),
        "must start with redis://, rediss://, unix:// or sentinel://"),
    "cache_url": (lambda v: not v or v.startswith(("redis://", "rediss://", "unix://")) or _is_cluster_url(v),
                  "must start with redis://, rediss:// or unix://, or be as redis-cluster://host:port;host:port, with "
                  "rediss-cluster:// for TLS and a user and a password before the first host only"),
}


def load_settings(environ: Mapping[str, str] | None = None, table: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of `environ` (the process's by default) over `table`, the file's [settings].

    Raises `SettingsError` with every fault of both.
    """
    values, faults = read_settings(os.environ if environ is None else environ, table or {})
    if faults:
        raise SettingsError(faults)
    return Settings(**values)


def read_settings(environ: Mapping[str, str], table: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values found, by name, and the faults found, as sentences."""
    kinds = typing.get_type_hints(Settings)
    given = [(name, value, f"[settings] {name}") for name, value in table.items()]
    given += [(key.removeprefix(PREFIX).lower(), value, key) for key, value in sorted(environ.items())
              if key.startswith(PREFIX) and key not in NOT_SETTINGS]
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, value, source in given:
        if name not in kinds:
            faults.append(f"{source} is not a setting{_suggestion(name, list(kinds))}")
            continue
        try:
            values[name] = _convert(value, kinds[name])
        except ValueError as exc:
            faults.append(f"{source} {exc}{_got(name, value)}")
    faults += _out_of_range(values)
    return values, faults


def _convert(value: Any, kind: Any) -> Any:
    """Return `value`, a TOML value or a string, as `kind`; ValueError says what was expected."""
    if kind is bool:
        if str(value).lower() in ("true", "false", "1", "0"):
            return str(value).lower() in ("true", "1")
        raise ValueError("must be true or false")
    if kind in (int, float):
        expected = "must be a whole number" if kind is int else "must be a number"
        if isinstance(value, bool) or not isinstance(value, str | int | kind):
            raise ValueError(expected)
        try:
            return kind(value)
        except (ValueError, OverflowError):
            raise ValueError(expected) from None
    if not isinstance(value, str):
        raise ValueError("must be text")
    return kind(value)


def _out_of_range(values: Mapping[str, Any]) -> list[str]:
    faults = [f"{name} {rule}{_got(name, values[name])}" for name, (good, rule) in _CHECKS.items()
              if name in values and not good(values[name])]
    faults += [f"{name} must be above 0; got {value!r}" for name, value in values.items()
               if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < float("inf")]
    lease_s = values.get("lease_s", _default("lease_s"))
    beat_s = values.get("beat_s", _default("beat_s"))
    if not beat_s * 2 <= lease_s:
        faults.append(f"beat_s must be at most half of lease_s, or one late beat loses the job; got beat_s {beat_s!r} "
                      f"and lease_s {lease_s!r}")
    cloud_lease_s = values.get("cloud_lease_s", _default("cloud_lease_s"))
    cloud_beat_s = values.get("cloud_beat_s", _default("cloud_beat_s"))
    if not cloud_beat_s * 2 <= cloud_lease_s:
        faults.append("cloud_beat_s must be at most half of cloud_lease_s, or one late beat brings the job home; got "
                      f"cloud_beat_s {cloud_beat_s!r} and cloud_lease_s {cloud_lease_s!r}")
    visibility_s = values.get("mns_visibility_s", _default("mns_visibility_s"))
    if not visibility_s < cloud_lease_s:
        faults.append("mns_visibility_s must be below cloud_lease_s, or a job whose end was being recorded when a worker "
                      f"died runs again; got mns_visibility_s {visibility_s!r} and cloud_lease_s {cloud_lease_s!r}")
    retry_s = values.get("openai_retry_s", _default("openai_retry_s"))
    cooldown_s = values.get("openai_breaker_cooldown_s", _default("openai_breaker_cooldown_s"))
    if not cooldown_s <= retry_s:
        faults.append("openai_breaker_cooldown_s must be at most openai_retry_s, or no request waits until the upstream is "
                      f"tried again; got openai_breaker_cooldown_s {cooldown_s!r} and openai_retry_s {retry_s!r}")
    if values.get("engine") == "openai" and not values.get("openai_url"):
        faults.append("openai_url is missing, which the engine openai needs: the base URL of the server to call, as "
                      "http://host:8000/v1")
    return faults


def _got(name: str, value: Any) -> str:
    """Return what was given, for a fault's end; nothing of a secret."""
    return "" if name in _SECRETS else f"; got {value!r}"


def _is_base_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return whole and "@" not in parts.netloc and not parts.query and not parts.fragment


def _is_mns_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        whole = parts.scheme in ("mns", "mnss") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return whole and "@" not in parts.netloc and parts.path in ("", "/") and not parts.query and not parts.fragment


def _is_cluster_url(text: str) -> bool:
    scheme, _, addresses = text.partition("://")
    whole = re.fullmatch(rf"([^@/;\s]*@)?{_ADDRESS}(;{_ADDRESS})*", addresses) is not None
    ports = [int(address.rpartition(":")[2]) for address in addresses.split(";")] if whole else []
    return scheme in ("redis-cluster", "rediss-cluster") and whole and all(0 < port < 65_536 for port in ports)


def _default(name: str) -> Any:
    return next(field.default for field in fields(Settings) if field.name == name)


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; the settings are {', '.join(known)}"
