"""`celery -A workers users ...` and `celery -A workers keys ...`: accounts and API keys, for operators."""

import functools
import re
import secrets
import sys
from collections.abc import Callable
from typing import Any

import click
import redis

from app.accounts import Account, Accounts, Role
from app.errors import TandemError
from app.passwords import hashed
from app.settings import Settings
from app.store import open_redis

_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,99}")
_SHORTEST_PASSWORD = 8
_LONGEST_PASSWORD = 1000  # as much as a login takes


def with_accounts(command: Callable[..., None]) -> Callable[..., None]:
    """Hand a command the accounts of the app that `-A` names; show errors as one line."""
    @click.pass_context
    @functools.wraps(command)
    def wrapped(context: click.Context, *args: Any, **kwargs: Any) -> None:
        settings: Settings = context.obj.app.tandem_settings
        try:
            command(Accounts(open_redis(settings)), *args, **kwargs)
        except (TandemError, redis.exceptions.RedisError, OSError) as exc:
            raise click.ClickException(str(exc)) from exc

    return wrapped


@click.group(name="users")
def users() -> None:
    """Accounts: add, list, password, remove."""


@users.command("add")
@click.argument("username")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.USER.value, show_default=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input; else one is made and shown.")
@with_accounts
def add_user(accounts: Accounts, username: str, role: str, password_stdin: bool) -> None:
    """Add an account."""
    if not _USERNAME.fullmatch(username):
        raise click.BadParameter("lower-case letters, digits and . _ @ -, 100 at most, starting with a letter or digit")
    password = _password(password_stdin)
    account = accounts.add(username, Role(role), hashed(password))
    click.echo(f"added {account.username} ({account.role}), id {account.id}")
    if not password_stdin:
        click.echo(f"password: {password}")


@users.command("list")
@with_accounts
def list_users(accounts: Accounts) -> None:
    """List the accounts."""
    for account in accounts.all():
        click.echo(f"{account.username:30} {account.role.value:10} {account.id}")


@users.command("password")
@click.argument("username")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input; else one is made and shown.")
@with_accounts
def change_password(accounts: Accounts, username: str, password_stdin: bool) -> None:
    """Give an account a new password."""
    password = _password(password_stdin)
    if not accounts.set_password(username, hashed(password)):
        raise click.ClickException(f"there is no account '{username}'; `users list` shows them")
    click.echo(f"changed the password of {username}" + ("" if password_stdin else f": {password}"))


@users.command("remove")
@click.argument("username")
@with_accounts
def remove_user(accounts: Accounts, username: str) -> None:
    """Delete an account and its API keys. Its jobs run on; its tokens last until they expire."""
    if not accounts.remove(username):
        raise click.ClickException(f"there is no account '{username}'; `users list` shows them")
    click.echo(f"removed {username}")


@click.group(name="keys")
def keys() -> None:
    """API keys: add, list, revoke."""


@keys.command("add")
@click.argument("username")
@click.option("--name", default="default", show_default=True, help="What the key is for.")
@with_accounts
def add_key(accounts: Accounts, username: str, name: str) -> None:
    """Make an API key for an account; the key is shown this once."""
    text, key = accounts.add_key(_account(accounts, username), name)
    click.echo(f"key {key.id} ({name}) for {username}, shown this once:", err=True)
    click.echo(text)


@keys.command("list")
@click.argument("username", required=False)
@with_accounts
def list_keys(accounts: Accounts, username: str | None) -> None:
    """List API keys, of one account or of all."""
    for key in accounts.keys(username):
        click.echo(f"{key.id}  {key.username:30} {key.name}")


@keys.command("revoke")
@click.argument("key_id")
@with_accounts
def revoke_key(accounts: Accounts, key_id: str) -> None:
    """Delete an API key by its id; gateways refuse it within seconds."""
    if not accounts.revoke_key(key_id):
        raise click.ClickException(f"there is no key '{key_id}'; `keys list` shows them")
    click.echo(f"revoked {key_id}")


def _account(accounts: Accounts, username: str) -> Account:
    account = accounts.find(username)
    if account is None:
        raise click.ClickException(f"there is no account '{username}'; `users list` shows them")
    return account


def _password(from_stdin: bool) -> str:
    if not from_stdin:
        return secrets.token_urlsafe(15)
    password = sys.stdin.readline().rstrip("\n")
    if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise click.ClickException(f"a password has {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters")
    return password
