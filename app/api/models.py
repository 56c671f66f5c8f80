"""`GET /v1/models`: the models served, in OpenAI's form. `default` always names what is served."""

import msgspec
from flask import Blueprint, Response

from app.accounts import Scope
from app.api import bodies, caller
from app.errors import ModelUnknown
from app.model_names import ALIAS

blueprint = Blueprint("models", __name__, url_prefix="/v1/models")


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


def find(name: str) -> str:
    """Return the name of the model that a request asks for. Raises `ModelUnknown`."""
    names = bodies.gateway().model_names.all()
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
    found = find(model)
    return bodies.json_response(ModelObject(ALIAS if model == ALIAS else found))
