"""`celery -A workers cache ...`: the response cache, for operators."""

import click

from app.accounts import Accounts
from app.response_cache import ResponseCache
from app.settings import Settings
from app.store import open_redis
from ops.operator_command import no_account, with_settings


@click.group(name="cache")
def cache() -> None:
    """Answers that are kept: figures, invalidate."""


@cache.command("figures")
@with_settings
def show_figures(settings: Settings) -> None:
    """Show what all processes counted since the main Redis was set up, and what is kept now."""
    figures = ResponseCache(settings, open_redis(settings)).figures()
    for name, value in figures.items():
        click.echo(f"{name:14} {value:>16,.0f}")
    asked = figures["hits"] + figures["misses"]
    rate = f"{figures['hits'] / asked:.1%}" if asked else "none asked"
    click.echo(f"hit rate       {rate:>16}")


@cache.command("invalidate")
@click.argument("username", required=False)
@click.option("--all", "whole", is_flag=True, help="Those of all accounts, and those that are shared.")
@with_settings
def invalidate(settings: Settings, username: str | None, whole: bool) -> None:
    """Forget the answers of an account, or all of them; the next who asks has the model asked."""
    if (username is not None) == whole:
        raise click.UsageError("name an account, or say --all")
    client = open_redis(settings)
    scope = None
    if username is not None:
        account = Accounts(client).find(username)
        if account is None:
            raise no_account(username)
        scope = account.id
    ResponseCache(settings, client).invalidate(scope)
    click.echo(f"forgotten: the answers {f'of {username}' if username else 'of all'}")
