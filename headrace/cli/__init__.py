"""The command line. Each command is one function: options, help, example, extras and body.

With `headrace.demo`, it is the only part that may import all the others. A module is imported by
the command that uses it, so that `headrace --help` is quick and needs no extra.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

import click

# Imported so that they add their commands to `root`, in the order of `headrace --help`.
from headrace.cli import run, show, alerts, data, models, datasets, federated  # noqa: F401  # isort: skip
from headrace.cli.command import root
from headrace.cli.failure import explain

__all__ = ["main", "root"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (default: of `sys.argv`) and return its exit code.

    It is 0, 1 after an error, 2 after wrong arguments, 130 after Ctrl-C. An error is one line on
    stderr with the next step; what can only be a bug of Headrace has its traceback above that line.
    """
    # Before torch is imported: spinning threads cost a busy machine most of its time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with root.make_context("headrace", given) as context:
            code = root.invoke(context)
        sys.stdout.flush()
        return code or 0
    except click.exceptions.Exit as ended:  # --help, --version
        return ended.exit_code
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        print("headrace: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Nobody reads any more; what is still buffered would fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        line = explain(error)
        if line is None:
            traceback.print_exc()
            line = f"this is a bug; please report it with the traceback above: {error!r}"
        print(f"headrace: {line}", file=sys.stderr)
        return 1
