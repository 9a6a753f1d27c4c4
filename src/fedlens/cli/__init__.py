"""The command line: arguments in, the front door called, the answer printed.

Knows: typer; exit codes 0 ok, 1 failed, 2 usage or configuration, 130 interrupted; data to stdout, progress to stderr.
Does not know: how anything is computed or drawn.
Offers: main, app.
"""

from __future__ import annotations

import io
import sys
import traceback

import typer

from fedlens.cli.checking import check
from fedlens.cli.commands import compare, data, methods, models, report, run
from fedlens.cli.diagnosing import diagnose

app = typer.Typer(
    name="fedlens",
    help="Federated learning for PyTorch that tells you why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (run, diagnose, check, compare, report, data, models, methods):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True)) -> None:
    if version:
        from fedlens._version import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; every failure is told in four parts and ends with its exit code."""
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or a bar that the terminal cannot show must not end a run
            stream.reconfigure(errors="replace")
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        if end.code == 130:  # Ctrl-C outside the rounds, which typer turns into this
            print("fedlens: interrupted; a run that had begun goes on with --resume", file=sys.stderr)
        raise
    except Exception as error:
        from fedlens.errors import FedlensError

        if verbose:
            traceback.print_exc()
            sys.exit(error.exit_code if isinstance(error, FedlensError) else 1)
        if isinstance(error, FedlensError):
            print(f"fedlens: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        print(
            f"fedlens: {type(error).__name__}: {error}\n  do:   run again with -v for the traceback; "
            "if it is ours, please report it.",
            file=sys.stderr,
        )
        sys.exit(1)
