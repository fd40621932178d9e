"""The carriers we answer for. To add one, write its file and name it here."""

from providers.base import Provider
from providers.plivo import Plivo
from providers.telnyx import Telnyx
from providers.twilio import Twilio

PROVIDERS: tuple[type[Provider], ...] = (Twilio, Plivo, Telnyx)
