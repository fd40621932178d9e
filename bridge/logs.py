"""Where log lines go: standard output, which every platform collects."""

import logging
import sys


def to_stdout() -> None:
    """Send the log to standard output, unless somebody has already decided where it goes."""
    if not logging.getLogger().handlers:
        logging.basicConfig(
            stream=sys.stdout,
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
