"""What the services of this process hold between jobs, loaded once, before the first: the engine, the keyring, Redis."""

import threading
from dataclasses import dataclass, field

import redis

from app import passwords
from app.accounts import Accounts
from app.announcements import Announcements
from app.answers import Answers
from app.errors import SettingsError
from app.job import Service
from app.keyring import Keyring, load_keyring
from app.model_names import ModelNames
from app.response_cache import ResponseCache
from app.settings import Settings
from app.store import open_redis
from workers.answer_keeping import AnswerKeeping
from workers.card_renewal import CardRenewal
from workers.engine import Engine, load_engine

_UNBOUNDED = 1_000_000  # more than a worker has slots


@dataclass(slots=True)
class Resources:
    """The loaded resources; a service uses those it needs."""

    client: redis.Redis
    accounts: Accounts
    announcements: Announcements
    cache: ResponseCache
    answers: Answers
    keyring: Keyring | None = None
    engine: Engine | None = None
    keeping: AnswerKeeping | None = None  # of the model service
    #: Chats wait for the model's part, so where one worker does both they must leave it slots, or all wait for ever: half
    #: of those that it started with, which it always has.
    chat_slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_UNBOUNDED))


_held: Resources | None = None


def load(settings: Settings, services: tuple[Service, ...], slots: int, *, most: int) -> Resources:
    """Load what these services need, for a worker that starts with so many slots and may get `most`. The engine takes
    seconds.

    It is made for `most` requests at once: memory is taken row by row as they come, so what is not used costs nothing.
    """
    global _held
    client = open_redis(settings)
    cache = ResponseCache(settings, client)
    answers = Answers(cache, ModelNames(client, settings), settings)
    _held = Resources(client=client, accounts=Accounts(client), announcements=Announcements(settings), cache=cache,
                      answers=answers)
    if Service.AUTH in services or Service.QUEUE in services:  # the second signs webhooks
        _held.keyring = load_keyring(settings.data_dir)
        passwords.prepare()
    if Service.MODEL in services:
        _held.engine = load_engine(settings, most)
        _held.keeping = AnswerKeeping(answers)
        CardRenewal(client, settings.server or "worker", _held.engine).start()
        _held.chat_slots = threading.Semaphore(slots // 2)
    return _held


def held() -> Resources:
    """The resources of this process."""
    if _held is None:
        raise SettingsError(["nothing is loaded in this process: it is not a worker"])
    return _held
