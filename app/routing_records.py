"""What the routing task decides and remembers: the records that `routing.policy` works on, and that operators are shown.

Without behaviour and without I/O. Times are Unix seconds by Redis's clock, as floats, unless a name says otherwise.

    routing:state    STRING  `Remembered` as JSON: what the next round goes on from, whoever leads it
    routing:shadowed STRING  `Shadowed` as JSON: the same for the second set, as long as there is one
    routing:shown    STRING  `Shown` as JSON: the last round, for status, metrics and the console; it expires
    routing:shed     STRING  `Shed` as JSON, for gateways; it expires
    routing:mode     HASH    paused: '1'; who, why, at: who paused it
    routing:set      HASH    threshold name -> JSON of what an operator set over the topology's
    routing:shadow   HASH    the same, for the second set that is evaluated and not acted on
    routing:audit    STREAM  what operators changed: at, who, what, before, after
    routing:history  STREAM  `Change`s, as JSON under the field `change`
    alerts           STREAM  `AlertEvent`s, as JSON under the field `event`
    alerts:open      HASH    alert id -> `Alert` as JSON
"""

from enum import StrEnum
from typing import Any

import msgspec

from app.signals import Signals


class Level(StrEnum):
    """How a signal stands with its threshold."""

    NORMAL = "normal"
    WARNING = "warning"  # above normal, for `for_s`
    ALERT = "alert"  # at or above alert, for `for_s`; left after `hold_s` at or below normal


class Gauge(msgspec.Struct, frozen=True, kw_only=True):
    """One signal of one server, or of the whole (`concurrent_users`), against its threshold."""

    level: Level = Level.NORMAL
    since_s: float = 0.0  # when it came to this level
    value: float | None = None  # the last one; None: not known, and the level stays what it was
    over_s: float | None = None  # since when it has been at or above alert without a break
    above_s: float | None = None  # since when above normal
    under_s: float | None = None  # since when at or below normal


class Standing(StrEnum):
    """Whether a server takes new work."""

    OPEN = "open"
    SATURATED = "saturated"  # finishes what it has, and takes nothing new while someone else can
    DOWN = "down"  # nothing is heard of it


class ServerView(msgspec.Struct, frozen=True, kw_only=True):
    """How a server stands."""

    standing: Standing = Standing.OPEN
    since_s: float = 0.0
    why: tuple[str, ...] = ()  # the signals in alert
    missing_s: float | None = None  # since when nothing is heard of it


class BreakerState(StrEnum):
    """Whether jobs are sent to the cloud."""

    CLOSED = "closed"  # they are
    OPEN = "open"  # they are not, until the time is over
    HALF_OPEN = "half-open"  # one at a time, to see whether it works


class CloudBreaker(msgspec.Struct, frozen=True, kw_only=True):
    """The breaker before the cloud."""

    state: BreakerState = BreakerState.CLOSED
    since_s: float = 0.0
    until_s: float = 0.0  # while open: when it is tried again
    failures: int = 0  # in a row
    successes: int = 0  # of probes in a row
    openings: int = 0  # in a row, without having been closed for long: each time it stays open twice as long
    posts: int = 0  # counts of `CloudSignals` that it has seen
    posts_failed: int = 0
    lapsed: int = 0
    begun: int = 0
    unreached: int = 0  # rounds in a row in which home did not reach MNS
    faults: int = 0  # rounds in which jobs failed there, without one in which a job ended well
    succeeded: int = 0  # further counts that it has seen
    failed: int = 0


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much more there is than the topology starts with."""

    grown: bool = False  # the pools at home have their largest size
    cloud_workers: int | None = None  # wanted in the cloud; None: as many as there are
    base: int = 0  # that there were before the first was asked for, and that are left in the end
    lowered: bool = False  # fewer are wanted than before, and there are not so few yet
    since_s: float = 0.0  # of the last step, up or down
    needless_s: float | None = None  # since when less would do


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator should know of, from its beginning to its end."""

    id: str  # "<name>@<scope>#<when it opened, ms>": the same, whoever finds it
    name: str  # of the signal, or: server-down, cloud-unreachable, spend-cap, shedding, routing-held
    scope: str  # the server, or "all", or "cloud"
    opened_s: float
    value: float | None
    threshold: float | None
    action: str  # what is done about it, as a phrase
    detail: str  # one sentence
    closed_s: float | None = None
    investigation: str | None = None  # id of the report


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An alert opened or closed."""

    event: str  # opened or closed
    alert: Alert


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the policy does otherwise than before, and why: a line of the history."""

    at_s: float
    what: str  # level, server, share, breaker, shed, scale, hold, recall, send, alert, mode
    scope: str
    before: str
    after: str
    why: str  # rule and values, as one sentence


class Shed(msgspec.Struct, frozen=True, kw_only=True):
    """New jobs of these lanes are refused."""

    lanes: tuple[str, ...] = ()
    retry_after_s: int = 10
    why: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done now. All but `send` and `recall` is how things should stand, so doing it again does no harm."""

    hold: dict[str, tuple[str, ...]] = {}  # server -> services that it is to take nothing new of; all others it takes
    send: int = 0  # jobs of the model service to the cloud now
    probe: bool = False  # they are to see whether it works again
    recall: int = 0  # jobs sent and not begun there that are to come home now
    shed: Shed = Shed()
    grow: bool = False  # pools at home to their largest size; else to the one they started with
    cloud_workers: int | None = None  # that there should be; None: no wish
    opened: tuple[Alert, ...] = ()
    closed: tuple[Alert, ...] = ()
    investigate: tuple[str, ...] = ()  # ids of alerts opened now that ask for a report
    changes: tuple[Change, ...] = ()
    why: dict[str, Any] = {}  # rule, values and thresholds for what is sent: the `decision` of those jobs
    reason: str = ""  # one sentence: how it stands


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that go one way for a while: to the cloud, or home."""

    since_s: float
    last_s: float  # when some went last
    jobs: int  # how many, until then


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy goes on from."""

    at_s: float = 0.0  # when the last round was; 0: there was none
    gauges: dict[str, Gauge] = {}  # "cpu_percent@server-1", "concurrent_users@all"
    servers: dict[str, ServerView] = {}
    breaker: CloudBreaker = CloudBreaker()
    scale: Scale = Scale()
    share: float = 0.0  # of the excess that leaves in one round
    share_since_s: float = 0.0
    calm_since_s: float | None = None  # since when home has been calm
    shed: int = 0  # lanes that are refused: 0 none, 1 batch, 2 also standard, 3 all
    shed_since_s: float = 0.0
    hold: dict[str, tuple[str, ...]] = {}
    alerts: dict[str, Alert] = {}  # open ones, by "<name>@<scope>"
    reported: dict[str, float] = {}  # "<name>@<scope>" -> when a report of it was last asked for
    away: bool = False  # all model jobs are left to the cloud, as every server is saturated
    away_since_s: float | None = None  # since when; None: not now
    away_again_s: float = 0.0  # it was given up, and is not tried again before that
    spend: Gauge = Gauge()  # how much of the cloud's caps is used, in percent; alert: a cap holds jobs back
    eased_s: float | None = None  # since when fewer lanes refused would do
    crowded_s: float | None = None  # since when the wait has been over the bound of the first lane without a break
    sending: Move | None = None  # None: nothing has left for a while
    recalling: Move | None = None


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """What the second set of thresholds would do."""

    remembered: Remembered
    decision: Decision
    rounds: int = 0  # since it was set
    rounds_sending: int = 0  # of these, in which it would have sent jobs; not how many: it does not see any of them leave
    changes: int = 0  # that it would have made


class Shadowed(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of the second set between two rounds."""

    overlay: dict[str, dict[str, Any]]  # the set: with another one it begins anew
    shadow: Shadow


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A round of the routing task."""

    at_ms: int
    leader: str  # the queue worker that leads
    epoch: int
    paused: bool
    acting: bool  # false: paused, or the setting `routing` is off
    signals: Signals
    remembered: Remembered
    decision: Decision
    shadow: Shadow | None = None
