"""What callers hear when the bot cannot take them."""

import re
from dataclasses import dataclass, replace

from providers.base import Call

E164 = re.compile(r"\+[1-9][0-9]{6,14}")


@dataclass(frozen=True)
class Sorry:
    """An apology, then the owner's human, if there is one."""

    message: str
    dial: str | None = None  # E.164
    caller_id: str | None = None  # E.164, what the human's phone shows
    timeout_s: int = 20  # how long the human's phone rings

    def to(self, call: Call | None) -> "Sorry":
        """Return the apology to one caller: a human is called from the number that was dialled.

        Carriers refuse, or mark as spam, a caller id that the account does not own.
        """
        if call and self.dial == call.to_number:
            return replace(self, dial=None)  # it would ring the bridge again
        if self.caller_id or not call or not E164.fullmatch(call.to_number):
            return self
        return replace(self, caller_id=call.to_number)


@dataclass(frozen=True)
class Hold:
    """A message, a wait, another try."""

    message: str
    attempts: int  # how often; then the apology
