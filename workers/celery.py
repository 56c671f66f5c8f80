"""What `celery -A workers worker|inspect|result|...` uses: the Celery application for this process's settings and profile.

Importing it reads the settings, and ends the process where they are wrong.
"""

import sys
from typing import Any

from celery import Celery, signals

from app import topology
from app.errors import SettingsError
from workers import application


def _app_of_profile() -> Celery:
    try:
        settings, plan = topology.load()
    except SettingsError as exc:
        sys.exit(str(exc))  # as it came, `celery` would put its own traceback before it
    if plan.profile is not topology.Profile.CLOUD:
        return application.make_app(settings)
    from workers.cloud.application import make_app as make_cloud_app  # what home has no use for

    return make_cloud_app(settings, plan)


app = _app_of_profile()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _own_logging(**_: Any) -> None:
    from app.logs import configure

    configure(app.tandem_settings.log_level)
