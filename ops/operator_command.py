"""What operators' commands have in common: the settings of the app that `-A` names, and errors as one line."""

import functools
from collections.abc import Callable
from typing import Any

import click
import redis

from app.accounts import Accounts
from app.errors import TandemError
from app.settings import Settings
from app.store import open_redis

_LONGEST_REASON = 500  # characters


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Hand a command the settings; show errors as one line."""
    @click.pass_context
    @functools.wraps(command)
    def wrapped(context: click.Context, *args: Any, **kwargs: Any) -> None:
        try:
            command(context.obj.app.tandem_settings, *args, **kwargs)
        except BrokenPipeError:
            raise  # who reads what is printed has gone, as `head` does: click ends then without a word
        except (TandemError, redis.exceptions.RedisError, OSError) as exc:
            raise click.ClickException(str(exc)) from exc

    return wrapped


def with_accounts(command: Callable[..., None]) -> Callable[..., None]:
    """Hand a command the accounts; show errors as one line."""
    @with_settings
    @functools.wraps(command)
    def wrapped(settings: Settings, *args: Any, **kwargs: Any) -> None:
        command(Accounts(open_redis(settings)), *args, **kwargs)

    return wrapped


def reason(_: click.Context, parameter: click.Parameter, text: str) -> str:
    """Take what an operator gives as the reason of a change: it is kept, and shown to others in a line."""
    if not text.strip() or not text.isprintable() or len(text) > _LONGEST_REASON:
        raise click.BadParameter(f"a reason is a line of 1 to {_LONGEST_REASON} printable characters", param=parameter)
    return text


def no_account(username: str) -> click.ClickException:
    """The error for a name that nobody has."""
    return click.ClickException(f"there is no account '{username}'; `users list` shows them")
