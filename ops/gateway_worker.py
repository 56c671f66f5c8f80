"""The gateway's process: gunicorn's gevent worker, whose settings are read once instead of several times a request.

Nothing else may be imported here: gunicorn's master loads this before the standard library is patched for gevent.
"""

from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

_LAST_REQUEST_S = 0.5  # for what a client had sent when its stream ended


class GatewayWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn looks a setting up through `Config.__getattr__` and a dictionary of objects; an attribute of the instance
    goes before that, and saves a twentieth of a short request's time."""

    def init_process(self) -> None:
        """Copy the settings into attributes, but for those that are properties, and go on as ever."""
        settings, kind = self.cfg.settings, type(self.cfg)
        self.cfg.__dict__.update({name: settings[name].get() for name in settings if not hasattr(kind, name)})
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Told to stop: end the open streams, whose readers go on elsewhere, or they would keep us until the time is up."""
        super().handle_exit(sig, frame)
        application = self.__dict__.get("wsgi")  # not there yet while we start
        if application is not None:
            gevent.spawn(application.extensions["tandem"].streams.close)  # its lock may be held by what this interrupts

    def timeout_ctx(self) -> gevent.Timeout:
        """How long to wait for a connection's next request; hardly, once we are to stop."""
        return super().timeout_ctx() if self.alive else gevent.Timeout(_LAST_REQUEST_S, False)
