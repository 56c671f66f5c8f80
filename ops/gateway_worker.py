"""The gateway's process: gunicorn's gevent worker, whose settings are read once instead of several times a request.

Nothing else may be imported here: gunicorn's master loads this before the standard library is patched for gevent.
"""

from gunicorn.workers.ggevent import GeventWorker


class GatewayWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn looks a setting up through `Config.__getattr__` and a dictionary of objects; an attribute of the instance
    goes before that, and saves a twentieth of a short request's time."""

    def init_process(self) -> None:
        """Copy the settings into attributes, but for those that are properties, and go on as ever."""
        settings, kind = self.cfg.settings, type(self.cfg)
        self.cfg.__dict__.update({name: settings[name].get() for name in settings if not hasattr(kind, name)})
        super().init_process()
