"""`celery -A workers route`, run in the tests' process: what tests of it do again and again."""

import re
from types import SimpleNamespace

from click.testing import CliRunner, Result

from app.settings import Settings
from ops.route import route


class Command:
    """Runs the command as `celery -A workers route` does, on the Redis of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, *arguments: str) -> Result:
        """Run it; return what became of it."""
        return CliRunner().invoke(route, arguments, obj=SimpleNamespace(app=SimpleNamespace(
            tandem_settings=self._settings)))

    def done(self, *arguments: str) -> str:
        """Run it, which succeeds; return what it prints."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, *arguments: str) -> str:
        """Run it, which is refused with an error and no traceback; return that."""
        result = self.run(*arguments)
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.stdout == ""
        assert result.stderr.startswith("Error: ")
        return result.stderr


def line(text: str, start: str) -> str:
    """Return the line that starts so, its columns one space apart."""
    (found,) = (each for each in text.splitlines() if each.startswith(start))
    return re.sub(r" +", " ", found)
