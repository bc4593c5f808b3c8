"""The `parley` command: every group of commands in one place."""

from __future__ import annotations

import errno
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from cli.commands import (
    activities,
    apply,
    batch,
    campaign,
    contacts,
    demo,
    dlq,
    reconcile,
    setup,
    stats,
    topics,
    up,
    version,
)
from cli.exits import EXIT_CODES, ExitCode, Failure


class _OneSentence(TyperGroup):
    """A Failure becomes its sentence on standard error and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            sys.stderr.write(f"parley: {failure}\n")
            raise typer.Exit(failure.code) from failure
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                sys.stderr.write("parley: The disk is full: make room, and run the same command again.\n")
            elif error.filename is not None:
                sys.stderr.write(f"parley: {error.filename} cannot be used: {error.strerror}.\n")
            else:
                raise
            raise typer.Exit(ExitCode.CONFIGURATION) from error


app = typer.Typer(
    name="parley",
    cls=_OneSentence,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
    rich_markup_mode="markdown",
    help=f"Omnichannel outreach and follow-up on Kafka and MongoDB.\n\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("demo")(demo.demo)
app.command("apply")(apply.apply)
app.add_typer(campaign.app, name="campaign")
app.add_typer(contacts.app, name="contacts")
app.add_typer(batch.app, name="batch")
app.add_typer(activities.app, name="activities")
app.add_typer(stats.app, name="stats")
app.add_typer(dlq.app, name="dlq")
app.command("reconcile")(reconcile.reconcile)
app.command("topics")(topics.topics)
app.command("docs")(topics.docs)
app.command("setup")(setup.setup)
app.command("version")(version.version)


if __name__ == "__main__":
    app()
