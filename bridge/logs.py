"""Where log lines go: standard output, which every platform collects."""

import logging
import sys

FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"
MOMENT = "%Y-%m-%d %H:%M:%S %z"


def to_stdout() -> None:
    """Send the log to standard output, unless somebody has already decided where it goes."""
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stdout, level=logging.INFO, format=FORMAT, datefmt=MOMENT)
