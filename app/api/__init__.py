"""The gateway: a Flask application over the ledger. A roof: nothing else imports it.

    gunicorn --worker-class gevent 'app.api:from_environment()'

The hot path, submit and poll, does one Redis round trip; tokens are checked here, passwords in the auth worker.
"""

from dataclasses import dataclass

import redis
from flask import Flask, Request
from werkzeug.routing import MapAdapter

from app import logs, topology
from app.accounts import Accounts
from app.announcements import Announcements
from app.answers import Answers
from app.api import (
    auth,
    completions,
    console,
    conversations,
    events,
    job_lists,
    jobs,
    metrics,
    models,
    pages,
    problems,
    request_times,
    routing,
    service,
    tenant_events,
    webhooks,
)
from app.api.beliefs import Beliefs
from app.api.caller import CallerCheck
from app.api.pipeline import SharedPipeline
from app.api.prompt_length import PromptLength
from app.api.reporting import Reporter
from app.api.request_times import RequestTimes
from app.api.shedding import Shedding
from app.api.tokens import AccessTokens
from app.conversations import Conversations
from app.investigations import Investigations
from app.keyring import Keyring, load_keyring
from app.ledger import Ledger
from app.login_limit import LoginLimit
from app.model_names import ModelNames
from app.registry import Registry
from app.response_cache import ResponseCache
from app.routing_board import RoutingBoard
from app.sessions import Sessions
from app.settings import Settings
from app.signing_keys import SigningKeys
from app.store import open_redis
from app.streams import Streams
from app.tenant_events import TenantEvents
from app.topology import Topology


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
    signing_keys: SigningKeys
    tokens: AccessTokens
    sessions: Sessions
    login_limit: LoginLimit
    beliefs: Beliefs
    check: CallerCheck
    prompt_length: PromptLength
    request_times: RequestTimes
    tenant_events: TenantEvents
    model_names: ModelNames
    cache: ResponseCache
    answers: Answers
    conversations: Conversations
    shedding: Shedding
    reporter: Reporter
    routing_board: RoutingBoard
    investigations: Investigations


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
    app = create_app(settings, plan)
    reporter: Reporter = app.extensions["tandem"].reporter
    reporter.start()
    return app


def create_app(settings: Settings, plan: Topology) -> Flask:
    """Return the application. It connects to Redis with the first request that needs it, and tells of its requests once its
    reporter is started."""
    app = Application("tandem", static_folder=None)
    app.url_map.merge_slashes = False  # or /v1//jobs would be sent on to another host: see Application
    client = open_redis(settings)
    keyring = load_keyring(settings.data_dir)
    signing_keys = SigningKeys(client, keyring, token_life_s=settings.access_token_s)
    tokens = AccessTokens(app, signing_keys, life_s=settings.access_token_s)
    shared = SharedPipeline(client, patience_s=2 * settings.redis_timeout_s)
    sessions = Sessions(client, life_s=settings.refresh_token_s, evaluator=shared)
    beliefs = Beliefs(settings, also=signing_keys.forget)
    streams = Streams(settings)
    model_names = ModelNames(client, settings)
    cache = ResponseCache(settings, client)
    ledger, times, shedding = Ledger(client, settings, evaluator=shared), request_times.install(app), Shedding(client)
    app.extensions["tandem"] = Gateway(
        settings=settings, topology=plan, client=client, announcements=Announcements(settings), keyring=keyring,
        streams=streams,
        ledger=ledger,
        registry=Registry(client), signing_keys=signing_keys, tokens=tokens, sessions=sessions,
        login_limit=LoginLimit(client, settings), beliefs=beliefs,
        check=CallerCheck(Accounts(client, shared), sessions, tokens, beliefs),
        prompt_length=PromptLength(client), model_names=model_names, cache=cache,
        answers=Answers(cache, model_names, settings),
        conversations=Conversations(client), routing_board=RoutingBoard(client),
        investigations=Investigations(client),
        request_times=times, shedding=shedding, reporter=Reporter(client, settings, ledger, times.window, shedding),
        tenant_events=TenantEvents(settings, stopping=lambda: streams.closing))
    problems.install(app)
    app.register_blueprint(auth.blueprint)
    app.register_blueprint(jobs.blueprint)
    app.register_blueprint(job_lists.blueprint)
    app.register_blueprint(events.blueprint)
    app.register_blueprint(tenant_events.blueprint)
    app.register_blueprint(webhooks.blueprint)
    app.register_blueprint(completions.blueprint)
    app.register_blueprint(conversations.blueprint)
    app.register_blueprint(models.blueprint)
    app.register_blueprint(service.blueprint)
    app.register_blueprint(routing.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(console.blueprint)
    return app
