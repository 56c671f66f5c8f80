"""`celery -A workers tokens ...`: the keys that sign access tokens, for operators."""

import time

import click

from app.keyring import load_keyring
from app.settings import Settings
from app.signing_keys import ANNOUNCED_S, SigningKey, SigningKeys
from app.store import open_redis
from ops.api_keys import moment
from ops.operator_command import with_settings


@click.group(name="tokens")
def tokens() -> None:
    """The keys that sign access tokens: rotate, list."""


@tokens.command("rotate")
@click.option("--end-old", is_flag=True, help="A key has leaked: refuse at once what the earlier keys signed. Callers "
                                              "refresh their tokens and go on; nobody has to log in again.")
@with_settings
def rotate(settings: Settings, end_old: bool) -> None:
    """Sign access tokens with a new key. Nobody is logged out: earlier tokens are good until they expire."""
    key = _keys(settings).rotate(end_old=end_old)
    click.echo(f"{key.kid} signs "
               + ("now; the earlier keys have ended" if end_old else f"in {ANNOUNCED_S:g} s, on all servers"))


@tokens.command("list")
@with_settings
def list_keys(settings: Settings) -> None:
    """List the keys whose tokens are believed."""
    keys = _keys(settings)
    signing = keys.signing().kid
    for key in keys.published():
        click.echo(f"{key.kid}  made {moment(key.made_ms)}  {_state(key, signing)}")


def _state(key: SigningKey, signing: str) -> str:
    if key.kid == signing:
        return "signs"
    if key.signs_from_ms > time.time() * 1000:
        return f"signs from {moment(key.signs_from_ms)}"
    return "spare" if key.until_ms is None else f"believed until {moment(key.until_ms)}"


def _keys(settings: Settings) -> SigningKeys:
    return SigningKeys(open_redis(settings), load_keyring(settings.data_dir), token_life_s=settings.access_token_s)
