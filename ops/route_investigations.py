"""`route investigate` and `route investigation`: reports of where the time goes, asked for by hand and read."""

import click

from app.investigation_records import Listed
from app.investigation_text import text
from app.investigations import Investigations
from app.settings import Settings
from app.store import open_redis
from ops.operator_command import reason, with_settings
from ops.operator_name import operator_name
from ops.route_text import moment, table

_SHOWN = 50  # reports in the list


@click.command("investigate")
@click.option("--why", default="an operator asked", callback=reason, help="Kept with the report.")
@with_settings
def investigate(settings: Settings, why: str) -> None:
    """Have every server say where its time goes: slow jobs, queues, stacks of busy workers, Redis. Takes a few seconds."""
    report_id = Investigations(open_redis(settings)).ask_by_hand(operator_name(), why)
    click.echo(f"asked for; read it in a few seconds: celery -A workers route investigation {report_id}")


@click.command("investigation")
@click.argument("report_id", metavar="[ID]", required=False)
@with_settings
def investigation(settings: Settings, report_id: str | None) -> None:
    """Show a report; without an id, which there are, newest first. They are kept for a week."""
    investigations = Investigations(open_redis(settings))
    if report_id is not None:
        click.echo(text(investigations.read(report_id)), nl=False)
        return
    found = investigations.list(_SHOWN)
    if found:
        table([("ID", "ASKED AT", "BY", "PARTS", "WHY"), *map(_row, found)])
    else:
        click.echo("there is no report; `route investigate` asks for one")


def _row(listed: Listed) -> tuple[str, ...]:
    asked = listed.asked
    return asked.id, moment(asked.at_ms / 1000), asked.who, ",".join(listed.parts) or "none yet", asked.why
