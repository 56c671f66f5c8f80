"""The rules that routing follows: thresholds, waiting times, the cloud's caps and prices, the limits of growth.

They come from the topology file ([thresholds] and [routing]); an operator may change any of them at run time, by the same
names and under the same checks (`Rules.changed`). Values only, so the policy and the simulator use them too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from app.errors import SettingsError


class Action(StrEnum):
    """What happens when a threshold's alert level is reached."""

    FAILOVER = "failover"
    INVESTIGATE = "investigate"
    SCALE_UP = "scale-up"


class AtCap(StrEnum):
    """What happens to the excess when the cloud's cap is reached."""

    WAIT = "wait"  # it waits at home, until `shed_wait_s` says otherwise
    SHED = "shed"  # new jobs are refused as long as there is an excess


#: The signals that have thresholds. All but the last are of each server; the last is of the whole.
SIGNALS = ("cpu_percent", "memory_percent", "response_s", "error_percent", "concurrent_users")


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Levels of one signal. An alert opens after `for_s` at or above `alert`, and closes after `hold_s` at or below
    `normal`."""

    normal: float
    alert: float
    for_s: float
    hold_s: float
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All of them. The topology file's names, with their defaults; `Rules.thresholds` by signal."""

    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    target_wait_s: float = 5.0  # what would wait about so long or longer at home is the excess, which leaves for the cloud
    shed_wait_s: float = 120.0  # with a longer wait ahead, new batch jobs are refused; standard at twice, all at four times
    step_s: float = 5.0  # between two steps of the share of the excess that leaves in one round, up and down
    calm_s: float = 10.0  # home must be calm for so long before jobs that wait in the cloud come home
    down_after_s: float = 5.0  # a server that is not heard of for so long is down
    cloud_jobs_per_minute: int = 600  # sent to the cloud at most; 0: none
    cloud_money_per_hour: float = 100.0  # spent there at most, in the currency of the prices; 0: nothing
    cloud_price_per_job: float = 0.0
    cloud_price_per_1000_tokens: float = 0.002  # of prompts and answers
    at_cap: AtCap = AtCap.WAIT
    breaker_failures: int = 3  # in a row, after which nothing is sent
    breaker_open_s: float = 10.0  # for so long, at first; twice as long each time, to thirty times
    breaker_probes: int = 2  # that must succeed before more is sent
    cloud_workers_most: int = 3  # that scale-up asks for
    scale_step_s: float = 60.0  # between two steps of scale-up
    scale_down_s: float = 300.0  # less must have done for so long before there is less
    investigate_again_s: float = 600.0  # after a report, before another for the same alert

    def changed(self, changes: Mapping[str, Mapping[str, Any]]) -> "Rules":
        """Return the rules with an operator's changes: by signal, members of its threshold; under "routing", the others.
        Raises `SettingsError` with every fault."""
        faults: list[str] = []
        thresholds = dict(self.thresholds)
        for name, members in changes.items():
            if name == "routing":
                continue
            if name not in thresholds:
                faults.append(f"there is no threshold '{name}'; there are: {', '.join(sorted(thresholds))}")
                continue
            base = {key: getattr(thresholds[name], key) for key in _MEMBERS}
            thresholds[name] = read_threshold({**base, **members}, name, faults)
        table = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "thresholds"}
        rules = read_rules({**table, **changes.get("routing", {})}, thresholds, faults)
        if faults:
            raise SettingsError(faults)
        return rules


_MEMBERS = ("normal", "alert", "for_s", "hold_s", "action")
_MAY_BE_ZERO = {"cloud_jobs_per_minute", "cloud_money_per_hour", "cloud_price_per_job", "cloud_price_per_1000_tokens",
                "cloud_workers_most"}
_MOST = {"cloud_workers_most": 64, "cloud_jobs_per_minute": 1e9}  # more is a slip of the hand


def read_thresholds(table: Mapping[str, Any], faults: list[str]) -> dict[str, Threshold]:
    """Return the thresholds of the [thresholds] table; add what is wrong with it to `faults`."""
    faults += [f"[thresholds] {name} is not a signal; there are: {', '.join(SIGNALS)}" for name in table
               if name not in SIGNALS]
    return {name: read_threshold(body, f"[thresholds] {name}", faults) for name, body in table.items() if name in SIGNALS}


def read_threshold(body: Any, where: str, faults: list[str]) -> Threshold:
    """Return a threshold; add what is wrong with it to `faults`."""
    body = body if isinstance(body, Mapping) else {}
    faults += [f"{where}: {key} is not known here; there are: {', '.join(_MEMBERS)}" for key in body
               if key not in _MEMBERS]
    before = len(faults)
    normal, alert = (_number(body.get(key), f"{where}: {key}", faults) for key in _MEMBERS[:2])
    if len(faults) == before and normal >= alert:
        faults.append(f"{where}: normal must be below alert; got {normal} and {alert}")
    for_s, hold_s = (_number(body.get(key), f"{where}: {key}", faults) for key in _MEMBERS[2:4])
    return Threshold(normal=normal, alert=alert, for_s=for_s, hold_s=hold_s,
                     action=_choice(Action, body.get("action"), f"{where}: action", faults) or Action.INVESTIGATE)


def read_rules(table: Mapping[str, Any], thresholds: Mapping[str, Threshold], faults: list[str]) -> Rules:
    """Return the rules of the [routing] table; add what is wrong with it to `faults`."""
    kinds = {each.name: each for each in fields(Rules) if each.name != "thresholds"}
    values: dict[str, Any] = {}
    for name, value in table.items():
        where = f"[routing] {name}"
        if name not in kinds:
            faults.append(f"{where} is not a rule; there are: {', '.join(sorted(kinds))}")
        elif name == "at_cap":
            values[name] = _choice(AtCap, value, where, faults) or AtCap.WAIT
        else:
            values[name] = _above_zero(value, where, faults, whole=kinds[name].type is int or kinds[name].type == "int",
                                       zero=name in _MAY_BE_ZERO, most=_MOST.get(name, math.inf))
    return replace(Rules(thresholds=dict(thresholds)), **values)


def _above_zero(value: Any, where: str, faults: list[str], *, whole: bool, zero: bool, most: float) -> Any:
    before = len(faults)
    number = _number(value, where, faults)
    if len(faults) > before:
        return 0
    if number == math.inf or (whole and number != int(number)):
        faults.append(f"{where} must be a {'whole' if whole else 'finite'} number; got {value!r}")
        return 0
    if number == 0 and not zero:
        faults.append(f"{where} must be above 0")
    if number > most:
        faults.append(f"{where} must be at most {most:g}; got {value!r}")
    return int(number) if whole else number


def _number(value: Any, where: str, faults: list[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        faults.append(f"{where} must be a number, 0 or above; got {value!r}")
        return 0.0
    try:
        return float(value)
    except OverflowError:  # a whole number may have any number of digits
        faults.append(f"{where} must be a number below 1e308")
        return 0.0


def _choice(kind: Any, value: Any, where: str, faults: list[str]) -> Any:
    try:
        return kind(value)
    except ValueError:
        faults.append(f"{where} must be one of {', '.join(kind)}; got {value!r}")
        return None
