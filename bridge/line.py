"""A line is a number of ours: which agent answers it, and what callers hear when it cannot."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from providers.base import Call

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
NUMBER = re.compile(r"\+?([1-9][0-9]{2,14})")  # short numbers too, with or without its plus
SIP_ADDRESS = re.compile(
    r"(?i)<?(?:sips?:)?(?P<user>[^\s@;:<>]+)@(?P<host>\[[0-9a-f:.]+\]|[^\s@;:?<>]+)"
    r"(?::[0-9]+)?(?:[;?][^<>]*)?>?"
)
CLIENT = re.compile(r"client:\S+")


@dataclass(frozen=True)
class Sorry:
    """An apology, then the owner's human, if there is one."""

    message: str
    dial: str | None = None  # E.164
    caller_id: str | None = None  # E.164, what the human's phone shows
    timeout_s: int = 20  # how long the human's phone rings
    voice: str | None = None  # who reads messages to the caller; None: the carrier's usual one

    def to(self, call: Call | None) -> "Sorry":
        """Return the apology to one caller: a human is called from the number that was dialled.

        Carriers refuse, or mark as spam, a caller id that the account does not own.
        """
        if call and self.dial == call.our_number:
            return replace(self, dial=None)  # it would ring the bridge again
        if self.caller_id or not call or not E164.fullmatch(call.our_number):
            return self
        return replace(self, caller_id=call.our_number)


@dataclass(frozen=True)
class Hold:
    """A message, a wait, another try."""

    message: str
    attempts: int  # how often; then the apology


@dataclass(frozen=True)
class Line:
    """How the calls to one number are answered."""

    agent: str  # name of the deployed Pipecat Cloud agent; "" if there is none
    public_key: str = field(repr=False)  # of the agent's organisation, "pk_..."
    deadline_s: float  # from webhook to answer, what /start may use of it
    sorry: Sorry
    hold: Hold
    accept: str = "answer"  # or "reject", "busy": callers are turned away
    websocket_auth: str = "token"  # or "none", as in the agent's pcc-deploy.toml
    organization: str = ""  # with "none": whose the agent is
    region: str = ""  # with "none": where it runs
    body: Mapping[str, object] = field(default_factory=dict)  # handed to the bot


@dataclass(frozen=True)
class Lines:
    """Every line, and the one that answers the numbers which are not listed."""

    default: Line
    listed: Mapping[str, Line] = field(default_factory=dict)  # by `key_of` their number

    def of(self, call: Call) -> Line:
        """Return the line that a call came in on."""
        return self.listed.get(key_of(call.our_number), self.default)

    def __iter__(self) -> Iterator[Line]:
        yield self.default
        yield from self.listed.values()


def key_of(address: str) -> str:
    """Return one spelling of a number, SIP address or client name, or "" if it is none.

    Plivo writes numbers without their plus, carriers differ in how they write SIP addresses.
    """
    address = address.strip()
    if number := NUMBER.fullmatch(address):
        return number[1]
    if CLIENT.fullmatch(address):
        return address
    if sip := SIP_ADDRESS.fullmatch(address):
        return f"{sip['user']}@{sip['host'].lower()}"
    return ""
