"""The gateway: a Flask application over the ledger. A roof: nothing else imports it.

    gunicorn --worker-class gevent 'app.api:from_environment()'

The hot path, submit and poll, does one Redis round trip; tokens are checked here, passwords in the auth worker.
"""

from dataclasses import dataclass
from datetime import timedelta

import redis
from flask import Flask, Request
from flask_jwt_extended import JWTManager
from werkzeug.routing import MapAdapter

from app import logs, topology
from app.accounts import Accounts
from app.announcements import Announcements
from app.api import auth, events, jobs, problems, service
from app.api.caller import CallerCheck
from app.api.pipeline import SharedPipeline
from app.api.prompt_length import PromptLength
from app.keyring import Keyring, load_keyring
from app.ledger import Ledger
from app.registry import Registry
from app.settings import Settings
from app.store import open_redis
from app.streams import Streams
from app.topology import Topology

ISSUER = "tandem"


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the blueprints are handed; it lies in `app.extensions["tandem"]`."""

    settings: Settings
    topology: Topology
    client: redis.Redis
    ledger: Ledger
    announcements: Announcements
    streams: Streams
    registry: Registry
    keyring: Keyring
    check: CallerCheck
    prompt_length: PromptLength


class Application(Flask):
    """Flask, but a route never depends on the request's host, so the host is not taken apart for each request."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what matches the request's path."""
        if request is None:
            return super().create_url_adapter(request)
        environ = request.environ
        return MapAdapter(self.url_map, "localhost", environ.get("SCRIPT_NAME") or "/", "",
                          environ["wsgi.url_scheme"], request.path, request.method, environ.get("QUERY_STRING", ""))


def from_environment() -> Flask:
    """Return the application for the process's environment; gunicorn calls this in each of its workers."""
    settings, plan = topology.load()
    logs.configure(settings.log_level)
    return create_app(settings, plan)


def create_app(settings: Settings, plan: Topology) -> Flask:
    """Return the application. It connects to Redis with the first request that needs it."""
    app = Application("tandem", static_folder=None)
    app.url_map.merge_slashes = False  # or /v1//jobs would be sent on to another host: see Application
    client = open_redis(settings)
    keyring = load_keyring(settings.data_dir)
    app.config.update(
        JWT_ALGORITHM="EdDSA", JWT_PRIVATE_KEY=keyring.private_pem, JWT_PUBLIC_KEY=keyring.public_pem,
        JWT_ENCODE_ISSUER=ISSUER, JWT_DECODE_ISSUER=ISSUER, JWT_ENCODE_AUDIENCE=ISSUER, JWT_DECODE_AUDIENCE=ISSUER,
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=settings.access_token_s), JWT_ENCODE_NBF=False)
    JWTManager(app)
    app.extensions["tandem"] = Gateway(
        settings=settings, topology=plan, client=client, announcements=Announcements(settings), keyring=keyring,
        streams=Streams(settings),
        ledger=Ledger(client, settings, evaluator=SharedPipeline(client, patience_s=2 * settings.redis_timeout_s)),
        registry=Registry(client), check=CallerCheck(Accounts(client)),
        prompt_length=PromptLength(client))
    problems.install(app)
    app.register_blueprint(auth.blueprint)
    app.register_blueprint(jobs.blueprint)
    app.register_blueprint(events.blueprint)
    app.register_blueprint(service.blueprint)
    return app
