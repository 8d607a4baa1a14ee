"""The command line: parse, call, print. Heavy libraries are imported by the command that needs them.

Exit codes: 0 done, 1 a case failed or fell outside its tolerance, 2 a user's mistake.
"""

import signal
import sys

import click

from profiler._version import __version__
from profiler.commands.accuracy import accuracy
from profiler.commands.compare import compare
from profiler.commands.coverage import coverage
from profiler.commands.doctor import doctor
from profiler.commands.estimate import estimate
from profiler.commands.explain import explain
from profiler.commands.hotspots import hotspots
from profiler.commands.latent import latent
from profiler.commands.measure import measure
from profiler.commands.models import models
from profiler.commands.options import EXIT_FAILED, EXIT_USER
from profiler.commands.recordings import recordings
from profiler.commands.report import report
from profiler.commands.run import run
from profiler.commands.verbose import verbose_option
from profiler.data.text import visible
from profiler.errors import LatentmeterError, UserError

EXIT_TERMINATED = 128 + signal.SIGTERM


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="latentmeter")
@verbose_option
def cli() -> None:
    """How much GPU memory a latent diffusion model needs: estimated, measured, compared."""


for command in (
    latent, models, estimate, recordings, measure, hotspots, run, report, explain, compare, accuracy, coverage, doctor,
):  # fmt: skip
    cli.add_command(verbose_option(command))  # of each command too: it is typed last


def main() -> None:
    """Run the command line. The one place where an error becomes a message and an exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # workers and temporary files go, as at the end
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("interrupted; a run goes on where it stood when the same command is given again", err=True)
        sys.exit(130)
    except LatentmeterError as error:
        click.echo(f"latentmeter: {visible(str(error))}", err=True)
        sys.exit(EXIT_USER if isinstance(error, UserError) else EXIT_FAILED)
