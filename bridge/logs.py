"""Where log lines go: standard output, which every platform collects."""

import logging
import sys

import click

FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"
MOMENT = "%Y-%m-%d %H:%M:%S %z"


def to_stdout() -> None:
    """Send the log to standard output, unless somebody has already decided where it goes."""
    if not logging.getLogger().handlers:
        # A flask command's output is for the person, or the program, that called it.
        stream = sys.stderr if click.get_current_context(silent=True) else sys.stdout
        logging.basicConfig(stream=stream, level=logging.INFO, format=FORMAT, datefmt=MOMENT)
