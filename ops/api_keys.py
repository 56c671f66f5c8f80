"""`celery -A workers keys ...`: API keys, for operators."""

from datetime import UTC, datetime
from typing import Any

import click

from app.accounts import Accounts, ApiKey, Scope
from ops.operator_command import no_account, with_accounts

_DAY_S = 86_400
_LONGEST_DAYS = 36_500


class _Scopes(click.ParamType[Any]):
    """Scopes, with commas between them."""

    name = "scope,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[Scope]:
        """Return the scopes, or say which is none."""
        names = [name.strip() for name in str(value).split(",")]
        if strange := [name for name in names if name not in set(Scope)]:
            self.fail(f"'{strange[0]}' is not one of {', '.join(Scope)}", param, ctx)
        return frozenset(Scope(name) for name in names)


@click.group(name="keys")
def keys() -> None:
    """API keys: add, list, revoke."""


@keys.command("add")
@click.argument("username")
@click.option("--name", default="default", show_default=True, help="What the key is for.")
@click.option("--scopes", type=_Scopes(), help=f"What it may be used for, of {', '.join(Scope)}; without, all that the "
                                               "account's role allows.")
@click.option("--expires-days", type=click.FloatRange(0, _LONGEST_DAYS, min_open=True),
              help="After how many days it ends; without, it does not.")
@with_accounts
def add_key(accounts: Accounts, username: str, name: str, scopes: frozenset[Scope] | None,
            expires_days: float | None) -> None:
    """Make an API key for an account; the key is shown this once."""
    account = accounts.find(username)
    if account is None:
        raise no_account(username)
    text, key = accounts.add_key(account, name, scopes=scopes,
                                 life_s=None if expires_days is None else expires_days * _DAY_S)
    click.echo(f"key {key.id} ({name}) for {username}, shown this once:", err=True)
    click.echo(text)


@keys.command("list")
@click.argument("username", required=False)
@with_accounts
def list_keys(accounts: Accounts, username: str | None) -> None:
    """List API keys, of one account or of all."""
    for key in accounts.keys(username):
        scopes = ",".join(sorted(key.scopes))
        click.echo(f"{key.id}  {key.username:30} {key.name:20} {_ends(key):26} {_used(key):24} {scopes}")


@keys.command("revoke")
@click.argument("key_id")
@with_accounts
def revoke_key(accounts: Accounts, key_id: str) -> None:
    """Delete an API key by its id; all gateways refuse it at once."""
    if not accounts.revoke_key(key_id):
        raise click.ClickException(f"there is no key '{key_id}'; `keys list` shows them")
    click.echo(f"revoked {key_id}")


def _ends(key: ApiKey) -> str:
    if key.expires_ms is None:
        return "does not expire"
    return f"{'expired' if key.has_expired() else 'expires'} {moment(key.expires_ms)}"


def _used(key: ApiKey) -> str:
    return "never used" if key.used_ms is None else f"used {moment(key.used_ms)}"


def moment(ms: int) -> str:
    """Return a time as operators read it, to the minute."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ")
