"""`celery -A workers limits ...`: what an account may ask for, and its share of the workers, for operators."""

import click

from app import limits as store
from app.accounts import Accounts
from app.settings import Settings
from app.store import open_redis
from ops.operator_command import no_account, with_settings

_LARGEST = 1e9
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 0.01, 1000.0


class LimitValue(click.ParamType):  # type: ignore[type-arg]
    """A number within bounds, or `default`."""

    name = "number|default"

    def __init__(self, smallest: float, largest: float) -> None:
        self._smallest, self._largest = smallest, largest

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return the number, or "default"."""
        if value == "default":
            return value
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not self._smallest <= number <= self._largest:
            self.fail(f"'{value}' is neither `default` nor a number from {self._smallest:g} to {self._largest:g}", param,
                      ctx)
        return number


_COUNT = LimitValue(1, _LARGEST)


@click.group(name="limits")
def limits() -> None:
    """Limits of accounts: show, set."""


@limits.command("show")
@click.argument("username")
@with_settings
def show(settings: Settings, username: str) -> None:
    """Show an account's limits, and where they come from."""
    client = open_redis(settings)
    account = Accounts(client).find(username)
    if account is None:
        raise no_account(username)
    own = store.read(client, account.id)
    for name, meaning in store.LIMITS.items():
        default = 1 if name == "weight" else getattr(settings, name)
        value = own.get(name, default)
        source = "own" if name in own else "default"
        click.echo(f"{name:20} {f'{value:g}' if value else 'none':>12}  {source:8} {meaning}")


@limits.command("set")
@click.argument("username")
@click.option("--weight", type=LimitValue(_SMALLEST_WEIGHT, _LARGEST_WEIGHT), help=store.LIMITS["weight"])
@click.option("--requests-per-minute", type=_COUNT, help=store.LIMITS["requests_per_minute"])
@click.option("--tokens-per-minute", type=_COUNT, help=store.LIMITS["tokens_per_minute"])
@click.option("--jobs-in-flight", type=_COUNT, help=store.LIMITS["jobs_in_flight"])
@with_settings
def set_limits(settings: Settings, username: str, **given: float | str | None) -> None:
    """Set limits of an account, each a number or `default`; the next request counts by them, on every gateway."""
    values = {name: None if isinstance(value, str) else value for name, value in given.items() if value is not None}
    if not values:
        raise click.UsageError("say what to set, as --requests-per-minute 60")
    client = open_redis(settings)
    account = Accounts(client).find(username)
    if account is None:
        raise no_account(username)
    store.change(client, account.id, values)
    click.echo(f"set for {username}: " + ", ".join(
        f"{name} {'default' if value is None else f'{value:g}'}" for name, value in values.items()))
