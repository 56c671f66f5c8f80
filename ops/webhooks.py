"""`celery -A workers webhooks ...`: the deliveries that failed for good, for operators."""

import click
import redis

from app.accounts import Account, Accounts
from app.errors import TandemError
from app.settings import Settings
from app.store import open_redis
from app.webhook_dead import DeadDeliveries, DeadDelivery

_PAGE = 100


@click.group(name="webhooks")
def webhooks() -> None:
    """Webhooks that could not be delivered: dead, replay."""


@webhooks.command("dead")
@click.argument("username", required=False)
@click.pass_context
def list_dead(context: click.Context, username: str | None) -> None:
    """List them, of one account or of all, the last put aside first."""
    client = _client(context)
    try:
        lines = [f"{delivery.id}  {account.username:20} {delivery.died_at}  {delivery.type:14} "
                 f"{delivery.attempts:3} attempts  {delivery.url}  {delivery.error}"
                 for account in _accounts(client, username) for delivery in _all(DeadDeliveries(client), account)]
        click.echo("\n".join(lines) or "none")
    except (TandemError, redis.exceptions.RedisError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


@webhooks.command("replay")
@click.argument("username")
@click.argument("ids", nargs=-1)
@click.option("--all", "whole", is_flag=True, help="All of the account.")
@click.pass_context
def replay(context: click.Context, username: str, ids: tuple[str, ...], whole: bool) -> None:
    """Deliver some again, or all of an account."""
    if bool(ids) == whole:
        raise click.UsageError("name webhooks by their ids, or say --all")
    client = _client(context)
    try:
        dead = DeadDeliveries(client)
        (account,) = _accounts(client, username)
        chosen = [delivery.id for delivery in _all(dead, account)] if whole else ids
        for delivery_id in chosen:
            dead.replay(delivery_id, account.id)
            click.echo(f"due again: {delivery_id}")
    except (TandemError, redis.exceptions.RedisError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def _client(context: click.Context) -> redis.Redis:
    settings: Settings = context.obj.app.tandem_settings
    return open_redis(settings)


def _accounts(client: redis.Redis, username: str | None) -> list[Account]:
    accounts = Accounts(client)
    if username is None:
        return accounts.all()
    account = accounts.find(username)
    if account is None:
        raise click.ClickException(f"there is no account '{username}'; `users list` shows them")
    return [account]


def _all(dead: DeadDeliveries, account: Account) -> list[DeadDelivery]:
    found, cursor = dead.page(account.id, limit=_PAGE)
    while cursor:
        more, cursor = dead.page(account.id, limit=_PAGE, cursor=cursor)
        found += more
    return found
