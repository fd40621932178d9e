"""What the secrets of this project look like; tests/secret_scan.py looks for them too."""

import re

from detect_secrets.plugins.base import RegexBasedDetector

VARIABLES = (
    "TWILIO_AUTH_TOKENS?|TWILIO_SHARED_KEYS|PLIVO_AUTH_TOKEN|TELNYX_API_KEY|TELNYX_PRIVATE_KEY|"
    "OPERATOR_TOKEN|HEROKU_API_KEY"
)


class SecretOfTheBridge(RegexBasedDetector):
    """Carriers' tokens and keys, Pipecat Cloud's keys, and stream URLs with their token."""

    secret_type = "Secret of the bridge"
    denylist = (
        re.compile(rf"(?:{VARIABLES})\W{{1,4}}((?:\w+=)?[A-Za-z0-9+/_-]{{20,}}=*)"),
        re.compile(r"\bAC[0-9a-f]{32}\W{1,4}([0-9a-f]{32})\b"),
        re.compile(r"\b([ps]k_[0-9a-f]{6,}-[0-9a-f-]{20,})\b"),
        re.compile(r"\b(KEY[0-9A-F]{20,}_[A-Za-z0-9]{10,})"),
        re.compile(r"wss?://[^\s\"']+/(eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,})"),
    )
