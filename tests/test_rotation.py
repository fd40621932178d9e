"""Several secrets per carrier: which one signed is known, and no other account's will do."""

import base64
import logging
from collections.abc import Mapping
from urllib.parse import urlencode

import pytest
from nacl.signing import SigningKey
from twilio.request_validator import HMAC_SHA256, SIGNATURE_SETTINGS_HEADER, RequestValidator

from app import create_app
from bridge.errors import ConfigError
from bridge.settings import Settings
from providers import PROVIDERS
from providers.base import BadSecret, Provider, Webhook, WebhookRejected
from providers.plivo import Plivo
from providers.telnyx import Telnyx
from providers.twilio import Twilio
from tests.conftest import PUBLIC_URL, FakeLedger, FakeStart, Recording, counted, environment
from tests.record_webhooks import FORM, TWILIO, recording
from tests.record_webhooks import plivo as plivo_signed

MAIN, SUB, OTHER_SUB = "AC" + "0" * 32, "AC" + "1" * 32, "AC" + "2" * 32
TOKENS = {MAIN: "main-token", SUB: "sub-token", OTHER_SUB: "other-sub-token"}
KEY_ID = "webhooks_sharedkey_01"
ANOTHER_TELNYX_KEY = "iGtB96aTJO4SmJPzRPqW20Zc10AWCiN8OQLE5Tg330U="


def twilio_signed(
    account: str, token: str, settings: str = "", algorithm: str | None = None
) -> Webhook:
    """Sign with Twilio's SDK for an account, as an auth token or a shared key does."""
    url, form = f"{PUBLIC_URL}/twilio/voice", TWILIO | {"AccountSid": account}
    signature = RequestValidator(token).compute_signature(url, form, algorithm)
    headers = {"X-Twilio-Signature": signature}
    if settings:
        headers[SIGNATURE_SETTINGS_HEADER] = settings
    content = recording(token, "POST", "/twilio/voice", headers, form)
    return Recording(provider="twilio", **content).webhook()  # type: ignore[arg-type]


def secret_of(provider: Provider, webhook: Webhook) -> str:
    """Return which secret signed it, or why it is refused."""
    try:
        return provider.verify(webhook)
    except WebhookRejected as rejection:
        return f"refused: {rejection}"


def other_secret(carrier: type[Provider]) -> str:
    """Return a secret that the recordings are not signed with."""
    return ANOTHER_TELNYX_KEY if carrier.name == "telnyx" else "the-next-one"


def test_log_and_counter_say_which_secret_signed(
    carrier: type[Provider], recorded: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """By its place in the list, so that the old one can be retired; never by its value."""
    other, variable = other_secret(carrier), carrier.secret_variable
    for text, label in (
        (recorded.secret, variable),
        (f"{recorded.secret},{other}", f"{variable} 1 of 2"),
        (f" {other} , {recorded.secret},", f"{variable} 2 of 2"),
    ):
        caplog.clear()
        caplog.set_level(logging.INFO)
        env = environment(**{variable: text})
        app = create_app(env, FakeStart(), FakeLedger(), lambda: recorded.received_at)  # type: ignore[arg-type]
        client = app.test_client()
        for _ in range(2):
            client.post(recorded.target, headers=recorded.headers, data=recorded.body)

        used = counted(app, "bridge_secrets_used_total", provider=carrier.name, secret=label)
        assert used == 2
        assert f"is signed with {label}\n" in caplog.text
        assert recorded.secret not in caplog.text
        assert other not in caplog.text


def test_refusal_counts_for_no_secret(carrier: type[Provider], recorded: Recording) -> None:
    """A forged webhook says nothing about which secret is in use."""
    app = create_app(environment(), FakeStart(), FakeLedger(), lambda: recorded.received_at)  # type: ignore[arg-type]
    app.test_client().post(recorded.target, headers=recorded.headers, data=recorded.body + "0")

    labels = {"provider": carrier.name, "secret": carrier.secret_variable}
    assert counted(app, "bridge_secrets_used_total", **labels) == 0


def twilio(**more: str) -> Twilio:
    """Return Twilio with the main account's token and two subaccounts'."""
    subaccounts = ",".join(f"{sid}={TOKENS[sid]}" for sid in (SUB, OTHER_SUB))
    return Twilio({"TWILIO_AUTH_TOKENS": subaccounts, **more})


def test_twilio_subaccount_is_chosen_by_the_signed_account_sid() -> None:
    """Each subaccount signs with its own token; the main account with TWILIO_AUTH_TOKEN."""
    provider = twilio(TWILIO_AUTH_TOKEN=TOKENS[MAIN])

    for account, label in (
        (SUB, f"TWILIO_AUTH_TOKENS {SUB}"),
        (OTHER_SUB, f"TWILIO_AUTH_TOKENS {OTHER_SUB}"),
        (MAIN, "TWILIO_AUTH_TOKEN"),
    ):
        assert secret_of(provider, twilio_signed(account, TOKENS[account])) == label


def test_twilio_subaccount_may_use_get() -> None:
    """Its AccountSid is in the query then, and is signed with it."""
    url = f"{PUBLIC_URL}/twilio/voice?" + urlencode(TWILIO | {"AccountSid": SUB})
    signature = RequestValidator(TOKENS[SUB]).compute_signature(url, {})
    webhook = Webhook("GET", url, {"x-twilio-signature": signature}, b"", 0)

    assert secret_of(twilio(), webhook) == f"TWILIO_AUTH_TOKENS {SUB}"


def test_twilio_auth_token_may_sign_with_sha256() -> None:
    """The header names an algorithm and no key."""
    provider = twilio(TWILIO_AUTH_TOKEN=TOKENS[MAIN])
    signed = twilio_signed(MAIN, TOKENS[MAIN], "algorithm=HMAC_SHA256", HMAC_SHA256)

    assert secret_of(provider, signed) == "TWILIO_AUTH_TOKEN"


def test_secrets_are_tried_in_their_order() -> None:
    """Where two of them would do, the first one listed is named."""
    same = Twilio({"TWILIO_AUTH_TOKEN": f"{TOKENS[SUB]},{TOKENS[SUB]}"})
    assert secret_of(same, twilio_signed(SUB, TOKENS[SUB])) == "TWILIO_AUTH_TOKEN 1 of 2"
    both = twilio(TWILIO_AUTH_TOKEN=TOKENS[SUB])
    assert secret_of(both, twilio_signed(SUB, TOKENS[SUB])) == f"TWILIO_AUTH_TOKENS {SUB}"


def test_every_known_secret_is_taken_out_of_the_log() -> None:
    """Each one of a list, those behind an account's id, with blanks around them, and keys."""
    env = environment(
        TWILIO_AUTH_TOKEN="canary-one, canary-two",
        TWILIO_AUTH_TOKENS=f"{SUB} = canary-three",
        SALES_PUBLIC_KEY="canary-four",
        OPERATOR_TOKEN="canary-five-operator",
        DATABASE_URL="postgres://u:canary-six@127.0.0.1/d",
        NUMBERS='[default]\npublic_key = "SALES_PUBLIC_KEY"',
    )
    secrets = Settings.from_env(env, PROVIDERS).secrets

    for word in ("one", "two", "three", "four", "five-operator", "six"):
        assert f"canary-{word}" in secrets, word


def test_twilio_token_of_one_subaccount_proves_nothing_for_another() -> None:
    """Who lies about the AccountSid has to sign with that account's token."""
    for provider in (twilio(), twilio(TWILIO_AUTH_TOKEN=TOKENS[MAIN])):
        lie = secret_of(provider, twilio_signed(OTHER_SUB, TOKENS[SUB]))
        assert lie == "refused: signature does not match"
    assert secret_of(twilio(TWILIO_AUTH_TOKEN="x"), twilio_signed(MAIN, TOKENS[SUB])).startswith(
        "refused: signature"
    )


def test_twilio_unknown_account_is_named() -> None:
    """The log says which account has no token here."""
    refused = secret_of(twilio(), twilio_signed(MAIN, TOKENS[MAIN]))

    assert refused.startswith("refused: ")
    assert MAIN in refused
    assert "TWILIO_AUTH_TOKENS" in refused


def test_twilio_subaccount_token_is_rotated_like_any_other() -> None:
    """An account may be listed twice; the first that matches is named."""
    provider = Twilio({"TWILIO_AUTH_TOKENS": f"{SUB}=next, {SUB}={TOKENS[SUB]}"})

    for token, label in (("next", "1 of 2"), (TOKENS[SUB], "2 of 2")):
        found = secret_of(provider, twilio_signed(SUB, token))
        assert found == f"TWILIO_AUTH_TOKENS {SUB} {label}"


def test_twilio_shared_key_signs_with_sha256() -> None:
    """The header names the key; the secret behind that id must have signed, in that algorithm."""
    provider = Twilio({"TWILIO_SHARED_KEYS": f"{KEY_ID}=shared,another=x="})
    settings = f"key={KEY_ID},algorithm=HMAC_SHA256"
    good = twilio_signed(MAIN, "shared", settings, HMAC_SHA256)

    assert secret_of(provider, good) == f"TWILIO_SHARED_KEYS {KEY_ID}"
    another = twilio_signed(MAIN, "x=", "algorithm=HMAC_SHA256, key=another", HMAC_SHA256)
    assert secret_of(provider, another) == "TWILIO_SHARED_KEYS another"
    for wrong in (
        twilio_signed(MAIN, "shared", f"key={KEY_ID}", HMAC_SHA256),  # SHA-1 is claimed
        twilio_signed(MAIN, "shared", settings),  # and the other way round
        twilio_signed(MAIN, "shared", "key=another,algorithm=HMAC_SHA256", HMAC_SHA256),
    ):
        assert secret_of(provider, wrong) == "refused: signature does not match"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("key=unknown,algorithm=HMAC_SHA256", "'unknown'"),
        ("key=,algorithm=HMAC_MD5", "HMAC_MD5"),
        (f"key={KEY_ID},algorithm=" + "x" * 5000, "'xxx"),
    ],
)
def test_twilio_header_nobody_signed_chooses_among_our_secrets_only(
    settings: str, named: str
) -> None:
    """A key or an algorithm that we do not have is refused, named and cut short, not a crash."""
    provider = twilio(TWILIO_AUTH_TOKEN=TOKENS[MAIN], TWILIO_SHARED_KEYS=f"{KEY_ID}=shared")
    refused = secret_of(provider, twilio_signed(MAIN, "shared", settings, HMAC_SHA256))

    assert refused.startswith("refused: ")
    assert named in refused
    assert len(refused) < 200


def test_twilio_shared_key_is_no_auth_token_and_no_auth_token_a_shared_key() -> None:
    """The header must not turn one kind of secret into the other."""
    provider = twilio(TWILIO_AUTH_TOKEN=TOKENS[MAIN], TWILIO_SHARED_KEYS=f"{KEY_ID}=shared")

    assert secret_of(provider, twilio_signed(MAIN, "shared")).startswith("refused")
    settings = f"key={KEY_ID},algorithm=HMAC_SHA256"
    forged = twilio_signed(MAIN, TOKENS[MAIN], settings, HMAC_SHA256)
    assert secret_of(provider, forged).startswith("refused")


def test_plivo_subaccount_needs_one_of_two_tokens() -> None:
    """Its number's webhooks are signed with its own token and with the main account's."""
    form = {"CallUUID": "c1", "ParentAuthID": "MAXXXXXXXXXXXXXXXXXX"}
    content = plivo_signed("POST", "/plivo/voice", form)
    by_sub = str(content["secret"])
    headers = dict(content["headers"])  # type: ignore[call-overload]
    headers["X-Plivo-Signature-Ma-V3"] = "made-with-the-main-token"

    def secret(tokens: str, changed: Mapping[str, str]) -> str:
        lower = {name.lower(): value for name, value in (headers | changed | FORM).items()}
        body = str(content["body"]).encode()
        webhook = Webhook("POST", f"{PUBLIC_URL}/plivo/voice", lower, body, 0)
        return secret_of(Plivo({"PLIVO_AUTH_TOKEN": tokens}), webhook)

    assert secret(f"main,{by_sub}", {}) == "PLIVO_AUTH_TOKEN 2 of 2"
    swapped = {
        "X-Plivo-Signature-V3": "made-with-the-subaccounts-token",
        "X-Plivo-Signature-Ma-V3": headers["X-Plivo-Signature-V3"],
    }
    assert secret(by_sub, swapped) == "PLIVO_AUTH_TOKEN"
    assert secret("main", {}) == "refused: signature does not match"


def test_telnyx_next_key_waits_for_its_activation() -> None:
    """The next public key can be listed before Telnyx signs with it, and both are accepted."""
    now, then = SigningKey(bytes(32)), SigningKey(bytes(range(32)))
    listed = ",".join(base64.b64encode(bytes(key.verify_key)).decode() for key in (then, now))
    telnyx = Telnyx({"TELNYX_PUBLIC_KEY": listed})

    for key, label in ((now, "TELNYX_PUBLIC_KEY 2 of 2"), (then, "TELNYX_PUBLIC_KEY 1 of 2")):
        headers = {
            "telnyx-timestamp": "1700000000",
            "telnyx-signature-ed25519": base64.b64encode(
                key.sign(b"1700000000|x").signature
            ).decode(),
        }
        webhook = Webhook("POST", f"{PUBLIC_URL}/telnyx/voice", headers, b"x", 1_700_000_000)
        assert secret_of(telnyx, webhook) == label


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("TWILIO_AUTH_TOKENS", "canary-token"),
        ("TWILIO_AUTH_TOKENS", f"{SUB}=,"),
        ("TWILIO_AUTH_TOKENS", "canary-sid=canary-token"),
        ("TWILIO_AUTH_TOKENS", f"{SUB}=good,canary"),
        ("TWILIO_SHARED_KEYS", "canary-secret"),
        ("TWILIO_AUTH_TOKEN", f"{SUB}=canary"),
        ("TWILIO_AUTH_TOKENS", f"AC{'F' * 32}=canary"),
        ("TWILIO_SHARED_KEYS", "=canary-secret"),
        ("TWILIO_SHARED_KEYS", " , "),
    ],
)
def test_unreadable_list_stops_the_start(variable: str, text: str) -> None:
    """The message names the variable, shows how it is written, and shows no secret."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_env(environment(**{variable: text}), PROVIDERS)

    [fault] = caught.value.faults
    assert variable in fault
    assert "canary" not in fault


def test_any_secret_variable_enables_its_carrier() -> None:
    """A bridge for subaccounts, or for shared keys, needs no TWILIO_AUTH_TOKEN."""
    for variable, text in (
        ("TWILIO_AUTH_TOKENS", f"{SUB}=t"),
        ("TWILIO_SHARED_KEYS", f"{KEY_ID}=t"),
    ):
        env = environment(TWILIO_AUTH_TOKEN="", **{variable: text})
        names = {provider.name for provider in Settings.from_env(env, PROVIDERS).providers}
        assert "twilio" in names


def test_secrets_are_in_no_providers_repr() -> None:
    """Neither a provider nor what it keeps shows a secret."""
    provider = twilio(TWILIO_AUTH_TOKEN=TOKENS[MAIN], TWILIO_SHARED_KEYS=f"{KEY_ID}=shared-key")
    shown = repr(provider) + repr(vars(provider))

    for secret in (*TOKENS.values(), "shared-key"):
        assert secret not in shown
    with pytest.raises(BadSecret):
        Twilio({})
