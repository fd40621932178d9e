"""What the environment may say, and how a fault in it is reported."""

import pytest

from app import create_app
from bridge.environment import START_URL
from bridge.errors import ConfigError
from bridge.settings import Settings
from providers import PROVIDERS
from providers.base import Provider
from tests.conftest import environment


def faults(**changes: str) -> tuple[str, ...]:
    """Return what is wrong with an environment."""
    with pytest.raises(ConfigError) as caught:
        create_app(environment(**changes))
    return caught.value.faults


def read(**changes: str) -> Settings:
    return Settings.from_env(environment(**changes), PROVIDERS)


def test_every_fault_is_named_at_once() -> None:
    """Nobody fixes one variable to be told about the next."""
    with pytest.raises(ConfigError) as caught:
        create_app({"START_DEADLINE_S": "soon", "PIPECAT_START_URL": "ftp://x"})

    message = str(caught.value)
    for variable in (
        "PUBLIC_URL is not set",
        "PIPECAT_AGENT is not set",
        "PIPECAT_PUBLIC_KEY is not set",
        "START_DEADLINE_S is 'soon'",
        "PIPECAT_START_URL is 'ftp://x'",
        "TWILIO_AUTH_TOKEN, PLIVO_AUTH_TOKEN, TELNYX_PUBLIC_KEY",
        ".env.example",
    ):
        assert variable in message


def test_defaults_are_the_documented_ones() -> None:
    """Only what is required has to be set."""
    settings = read()

    assert settings.start_url == START_URL
    assert settings.start_url == "https://api.pipecat.daily.co/v1/public/{agent}/start"
    assert settings.transport == "websocket"
    assert settings.lines.default.deadline_s == 5.0


def test_blank_means_not_set() -> None:
    """A variable that a platform sets to nothing, or to blanks, has its default."""
    settings = read(START_DEADLINE_S=" ", PIPECAT_TRANSPORT="", PIPECAT_START_URL="  ")

    assert settings == read()
    assert "PIPECAT_AGENT is not set" in faults(PIPECAT_AGENT="  ")[0]


@pytest.mark.parametrize(
    "value",
    [
        "bridge.example.com",
        "ftp://bridge.example.com",
        "https://",
        "https://bridge.example.com?x=1",
        "https://bridge.example.com/#rc=2",
        "https://bridge.example.com:port",
        "https://bridge.example.com:99999",
        "https://[::1",
        "https://brücke.example.com",
        "https://bridge.example.com/a b",
    ],
)
def test_public_url_is_what_carriers_dial(value: str) -> None:
    """Anything they cannot dial, or would sign differently, is named."""
    [fault] = faults(PUBLIC_URL=value)

    assert "PUBLIC_URL" in fault
    assert repr(value) in fault


def test_public_url_with_a_password_is_not_repeated() -> None:
    """The fault is named, the password is not."""
    [fault] = faults(PUBLIC_URL="https://user:canary@bridge.example.com")

    assert "PUBLIC_URL is a URL with a user name" in fault
    assert "canary" not in fault


def test_pasted_webhook_url_is_no_public_url() -> None:
    """What the carrier dials is PUBLIC_URL and the route; the route is not to be there twice."""
    [fault] = faults(PUBLIC_URL="https://bridge.example.com/twilio/voice")

    assert "PUBLIC_URL" in fault


@pytest.mark.parametrize("value", ["https://a.example/", "https://a.example/b/", "http://[::1]:80"])
def test_public_url_may_have_port_and_prefix(value: str) -> None:
    """A trailing slash is no part of it."""
    assert read(PUBLIC_URL=value).public_url == value.rstrip("/")


@pytest.mark.parametrize("value", ["0", "-1", "15", "nan", "inf", "5s", "1e9"])
def test_deadline_leaves_the_carrier_its_patience(value: str) -> None:
    """More than 0 and at most 14 seconds."""
    [fault] = faults(START_DEADLINE_S=value)

    assert f"START_DEADLINE_S is {value!r}" in fault


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PORT", "x"), ("PORT", "70000"), ("WEB_CONCURRENCY", "0"), ("WEB_CONCURRENCY", "two")],
)
def test_how_it_listens_is_checked_too(variable: str, value: str) -> None:
    """gunicorn would listen with nobody to answer, or show a traceback."""
    [fault] = faults(**{variable: value})

    assert f"{variable} is {value!r}: give a whole number" in fault


@pytest.mark.parametrize(
    "value", ["https://a/{org}/{agent}", "http://", "//a/{agent}", "https://a#b"]
)
def test_start_url_has_one_placeholder(value: str) -> None:
    """A placeholder that nobody fills is named before the first call meets it."""
    [fault] = faults(PIPECAT_START_URL=value)

    assert "PIPECAT_START_URL" in fault


def test_transport_has_one_placeholder() -> None:
    """A placeholder that nobody fills is named at start."""
    [fault] = faults(PIPECAT_TRANSPORT="{carrier}")

    assert "PIPECAT_TRANSPORT is '{carrier}'" in fault
    assert read(PIPECAT_TRANSPORT="{provider}").transport == "{provider}"


def test_private_key_is_not_sent_around() -> None:
    """A key that begins with sk_ belongs to nobody but its owner; it is not shown either."""
    [fault] = faults(PIPECAT_PUBLIC_KEY="sk_canary")

    assert "private key" in fault
    assert "canary" not in fault


def test_public_key_with_stray_characters_is_not_shown() -> None:
    """A key copied with a line break would break every header; the message does not repeat it."""
    [fault] = faults(PIPECAT_PUBLIC_KEY="pk_canary\nX: y")

    assert "PIPECAT_PUBLIC_KEY" in fault
    assert "canary" not in fault


def test_unusable_secret_stops_the_start(carrier: type[Provider]) -> None:
    """A secret that holds nothing is named, and is not taken for "no signature needed"."""
    [fault] = faults(**{carrier.secret_variable: " , "})

    assert carrier.secret_variable in fault


def test_secrets_are_in_no_repr() -> None:
    """Settings and providers can be logged by accident without harm."""
    env = environment()
    shown = repr(Settings.from_env(env, PROVIDERS)) + repr(
        Settings.from_env(env, PROVIDERS).providers
    )

    for variable in ("PIPECAT_PUBLIC_KEY", *(p.secret_variable for p in PROVIDERS)):
        assert env[variable] not in shown


def test_no_fault_shows_a_secret() -> None:
    """A message about settings is pasted into tickets."""
    with pytest.raises(ConfigError) as caught:
        create_app(
            environment(
                PUBLIC_URL="x",
                TELNYX_PUBLIC_KEY="canary-1",
                PIPECAT_PUBLIC_KEY="canary 2",
                START_DEADLINE_S="x",
            )
        )

    assert "canary" not in str(caught.value)
    assert len(caught.value.faults) == 4
