"""`GET /v1/models`: the models served, in OpenAI's form.

A model's name comes from its card (`app.model_card`). An engine without cards goes by the settings, which are the same on
all servers: the upstream's model, or the engine's own name. `default` always names what is served.
"""

import time

import msgspec
import redis
from flask import Blueprint, Response

from app import model_card
from app.accounts import Scope
from app.api import bodies, caller
from app.errors import ModelUnknown
from app.settings import Settings

blueprint = Blueprint("models", __name__, url_prefix="/v1/models")

ALIAS = "default"

_BELIEVED_S = 5.0


class ModelObject(msgspec.Struct):
    """A model. `created` (Unix seconds) is 0: Tandem does not know when a model was made."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "tandem"


class ModelList(msgspec.Struct):
    """The models served."""

    data: list[ModelObject]
    object: str = "list"


class ModelNames:
    """Knows the names of the models served; reads them again after some seconds."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._named = {"openai": settings.openai_model, "scripted": "scripted"}.get(settings.engine, "") or ALIAS
        self._names: tuple[str, ...] = ()
        self._read_s = float("-inf")  # monotonic

    def all(self) -> tuple[str, ...]:
        """Return the names, at least one. While Redis is away, they are those of before."""
        if time.monotonic() - self._read_s > _BELIEVED_S:
            try:
                self._names = tuple(dict.fromkeys(card.name for card in model_card.read(self._client)))
                self._read_s = time.monotonic()
            except (redis.exceptions.RedisError, OSError):
                return self._names or (self._named,)
        return self._names or (self._named,)

    def find(self, name: str) -> str:
        """Return the name of the model that a request asks for. Raises `ModelUnknown`."""
        names = self.all()
        if name == ALIAS:
            return names[0]
        if name not in names:
            raise ModelUnknown(f"the model '{name[:100]}' is not served; there is {', '.join(names)}, also as {ALIAS}")
        return name


@blueprint.get("")
def listed() -> Response:
    """List the models."""
    caller.current(Scope.JOBS_READ)
    return bodies.json_response(ModelList([ModelObject(name) for name in bodies.gateway().model_names.all()]))


@blueprint.get("/<path:model>")
def read(model: str) -> Response:
    """Return one model; its name may have slashes."""
    caller.current(Scope.JOBS_READ)
    found = bodies.gateway().model_names.find(model)
    return bodies.json_response(ModelObject(ALIAS if model == ALIAS else found))
