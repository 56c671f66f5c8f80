"""`celery -A workers users ...`: accounts, for operators."""

import re
import secrets
import sys

import click

from app.accounts import Accounts, Role
from app.passwords import hashed
from ops.operator_command import no_account, with_accounts

_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,99}")
_SHORTEST_PASSWORD = 8
_LONGEST_PASSWORD = 1000  # as much as a login takes

_ROLES = click.Choice([role.value for role in Role])


@click.group(name="users")
def users() -> None:
    """Accounts: add, list, password, role, disable, enable, remove."""


@users.command("add")
@click.argument("username")
@click.option("--role", type=_ROLES, default=Role.USER.value, show_default=True)
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
        state = "" if account.disabled_ms is None else "  disabled"
        click.echo(f"{account.username:30} {account.role.value:10} {account.id}{state}")


@users.command("password")
@click.argument("username")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input; else one is made and shown.")
@with_accounts
def change_password(accounts: Accounts, username: str, password_stdin: bool) -> None:
    """Give an account a new password. It is logged out everywhere; its API keys go on."""
    password = _password(password_stdin)
    if not accounts.set_password(username, hashed(password)):
        raise no_account(username)
    click.echo(f"changed the password of {username}" + ("" if password_stdin else f": {password}"))


@users.command("role")
@click.argument("username")
@click.argument("role", type=_ROLES)
@with_accounts
def change_role(accounts: Accounts, username: str, role: str) -> None:
    """Give an account another role. It holds at once, for tokens and keys that are in use, too."""
    if not accounts.set_role(username, Role(role)):
        raise no_account(username)
    click.echo(f"{username} has the role {role}")


@users.command("disable")
@click.argument("username")
@with_accounts
def disable_user(accounts: Accounts, username: str) -> None:
    """Let nobody use an account: no login, no token, no key. Its jobs run on, and `users enable` brings it back."""
    if not accounts.disable(username):
        raise no_account(username)
    click.echo(f"disabled {username}")


@users.command("enable")
@click.argument("username")
@with_accounts
def enable_user(accounts: Accounts, username: str) -> None:
    """Let a disabled account log in again; its API keys work again, too."""
    if not accounts.enable(username):
        raise no_account(username)
    click.echo(f"enabled {username}")


@users.command("remove")
@click.argument("username")
@with_accounts
def remove_user(accounts: Accounts, username: str) -> None:
    """Delete an account; its tokens and API keys end with it. Its jobs run on."""
    if not accounts.remove(username):
        raise no_account(username)
    click.echo(f"removed {username}")


def _password(from_stdin: bool) -> str:
    if not from_stdin:
        return secrets.token_urlsafe(15)
    password = sys.stdin.readline().rstrip("\n")
    if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise click.ClickException(f"a password has {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters")
    return password
