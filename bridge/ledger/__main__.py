"""python -m bridge.ledger upgrade: brings the schema up to date, before the new code starts."""

import os
import sys

from bridge.environment import LEDGER_URL
from bridge.ledger.database import BadDatabaseUrl, migrate, read_url

if __name__ == "__main__":
    if sys.argv[1:] != ["upgrade"]:
        sys.exit("usage: python -m bridge.ledger upgrade")
    try:
        migrate(read_url(os.environ.get("DATABASE_URL", "").strip() or LEDGER_URL))
    except BadDatabaseUrl as error:
        sys.exit(f"DATABASE_URL {error}")
