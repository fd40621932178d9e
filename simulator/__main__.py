"""python -m simulator PROVIDER: ring the bridge as that carrier does."""

import json
import math
import os
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click
from dotenv import dotenv_values

from simulator.audio import UnusableWav, read_wav, tone
from simulator.call import Script, make_call
from simulator.carrier import Carrier
from simulator.document import is_loopback
from simulator.plivo import Plivo
from simulator.report import CUT_SHORT, FAILED, Report, summary, summary_as_text
from simulator.ringing import Ring
from simulator.telnyx import Telnyx, new_key
from simulator.twilio import Twilio

SECONDS = click.FloatRange(0, 3600)
WAV_OUT = click.Path(path_type=Path, dir_okay=False, writable=True)

CARRIERS: dict[str, type[Carrier]] = {c.name: c for c in (Twilio, Plivo, Telnyx)}

INTERRUPTED = 130  # as shells say it

EXIT_CODES = """\b
Exit codes:
  0  every call got its XML, its socket and audio back
  1  a call failed
  2  a wrong option
  3  no call failed, but some were cut short on purpose and met as they should be
     (--bad-signature refused with 403, --hangup-early, --refuse-socket with words afterwards,
     a line that turns callers away)
"""


@click.command(context_settings={"show_default": True, "max_content_width": 100}, epilog=EXIT_CODES)
@click.argument("provider", type=click.Choice(sorted(CARRIERS)))
@click.option("--url", help="The bridge's route.  [default: PROVIDER's on 127.0.0.1, PORT or 8000]")
@click.option("--public-url", help="What is signed instead of --url's host.  [default: PUBLIC_URL]")
@click.option("--secret", help="Signing secret.  [default: from the environment or .env]")
@click.option("--from", "from_number", default="+14155550100", help="Who calls.")
@click.option("--to", "to_number", default="+14155550123", help="Who is called.")
@click.option("--wav", type=click.Path(path_type=Path), help="What the caller says.")
@click.option("--tone", "tone_s", default=1.0, type=SECONDS, help="Seconds of tone without --wav.")
@click.option("--out", type=WAV_OUT, help="WAV file for what the bot says.")
@click.option("--listen", default=0.5, type=SECONDS, help="Seconds on the line after speaking.")
@click.option(
    "--method", default="POST", type=click.Choice(["POST", "GET"]), help="Of the webhook."
)
@click.option("--calls", default=1, type=click.IntRange(1, 10_000), help="How many calls.")
@click.option("--concurrency", default=1, type=click.IntRange(1, 500), help="How many at once.")
@click.option("--duplicate", is_flag=True, help="Send the webhook twice.")
@click.option("--replay", is_flag=True, help="Try the spent token again: it must be refused.")
@click.option("--bad-signature", is_flag=True, help="Forge the signature: it must be refused.")
@click.option("--hangup-early", is_flag=True, help="Hang up before the socket opens.")
@click.option("--refuse-socket", is_flag=True, help="Find the socket refused: what comes after?")
@click.option("--hurry", is_flag=True, help="Do not wait where the document says so.")
@click.option("--json", "as_json", is_flag=True, help="Report for machines.")
@click.option(
    "--new-key", "make_new_key", is_flag=True, help="Print a key pair for telnyx and stop."
)
def main(
    provider: str,
    url: str | None,
    public_url: str | None,
    secret: str | None,
    from_number: str,
    to_number: str,
    wav: Path | None,
    tone_s: float,
    out: Path | None,
    listen: float,
    method: str,
    calls: int,
    concurrency: int,
    duplicate: bool,
    replay: bool,
    bad_signature: bool,
    hangup_early: bool,
    refuse_socket: bool,
    hurry: bool,
    as_json: bool,
    make_new_key: bool,
) -> None:
    """Ring the bridge as PROVIDER does, follow its XML, talk to the bot, say what happened."""
    if make_new_key:
        print_new_key(provider)
        return
    if bad_signature and (replay or hangup_early):
        raise click.UsageError("a call with --bad-signature ends at the webhook: use it alone")
    if not math.isfinite(tone_s + listen):
        raise click.UsageError("--tone and --listen take seconds")
    if out and not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no folder", param_hint="--out")
    env = {**dotenv_values(".env"), **os.environ}
    carrier = carrier_of(provider, secret, env)
    url = url or f"http://127.0.0.1:{env.get('PORT') or 8000}/{provider}/voice"
    script = Script(
        ring=Ring(url, signed_url(url, public_url, env), method, bad_signature),
        mulaw=what_is_said(wav, tone_s),
        listen_s=listen,
        out=out,
        duplicate=duplicate,
        replay=replay,
        hangup_early=hangup_early,
        refuse_socket=refuse_socket,
        hurry=hurry,
        tell_status=True,
    )
    reports = make_calls(carrier, script, from_number, to_number, calls, concurrency)
    if not reports:
        sys.exit(INTERRUPTED)
    figures = summary(reports)
    if as_json:
        content = {"calls": [report.as_json() for report in reports], "summary": figures}
        click.echo(json.dumps(content, indent=2))
    elif calls == 1:
        click.echo(reports[0].as_text())
    else:
        click.echo(summary_as_text(figures))
    sys.exit(INTERRUPTED if script.stop.is_set() else exit_code(reports))


def carrier_of(provider: str, secret: str | None, env: Mapping[str, str | None]) -> Carrier:
    """Return the carrier with its secret, or say where the secret comes from."""
    kind = CARRIERS[provider]
    # While a secret is being rotated the bridge accepts several; a carrier signs with one.
    found = (secret or env.get(kind.secret_variable) or "").split(",")[0].strip()
    if not found:
        hint = "; --new-key makes one" if kind is Telnyx else ", the one that the bridge has"
        raise click.UsageError(
            f"{provider} signs its webhooks: set {kind.secret_variable} or give --secret{hint}"
        )
    try:
        return kind(found)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def signed_url(url: str, public_url: str | None, env: Mapping[str, str | None]) -> str:
    """Return the URL that is signed: what the carrier would have dialled."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f"{url!r} is no http(s) URL", param_hint="--url")
    if public_url is None and is_loopback(parts.hostname):
        public_url = env.get("PUBLIC_URL")
    if not public_url:
        return url
    query = f"?{parts.query}" if parts.query else ""
    return public_url.rstrip("/") + parts.path + query


def what_is_said(wav: Path | None, tone_s: float) -> bytes:
    """Return the caller's mu-law: the file's, or a tone."""
    try:
        return read_wav(wav) if wav else tone(tone_s)
    except UnusableWav as error:
        raise click.BadParameter(str(error), param_hint="--wav") from error


def make_calls(
    carrier: Carrier,
    script: Script,
    from_number: str,
    to_number: str,
    calls: int,
    concurrency: int,
) -> list[Report]:
    """Make the calls, so many at once, with a progress bar on a terminal; Ctrl-C hangs up."""
    pending: list[Future[Report]] = []
    with ThreadPoolExecutor(min(calls, concurrency)) as lines:
        try:
            for number in range(1, calls + 1):
                call = carrier.new_call(from_number, to_number)
                numbered_script = replace(script, out=numbered(script.out, number, calls))
                pending.append(lines.submit(make_call, carrier, call, numbered_script))
            bar = click.progressbar(
                as_completed(pending),
                length=calls,
                label=f"{calls} calls",
                file=sys.stderr,
                hidden=calls == 1 or not sys.stderr.isatty(),
            )
            with bar as done:
                for _ in done:
                    pass
        except KeyboardInterrupt:
            script.stop.set()
            for waiting in pending:
                waiting.cancel()
    return [made.result() for made in pending if not made.cancelled()]


def numbered(out: Path | None, number: int, calls: int) -> Path | None:
    """Return the file of one of several calls: answer.wav, answer-2.wav, ..."""
    return out if out is None or calls == 1 else out.with_stem(f"{out.stem}-{number}")


def exit_code(reports: list[Report]) -> int:
    """Return what EXIT_CODES says."""
    outcomes = {report.outcome for report in reports}
    if FAILED in outcomes:
        return 1
    return 3 if CUT_SHORT in outcomes else 0


def print_new_key(provider: str) -> None:
    """Print two lines for .env: the simulator signs with one, the bridge checks with the other."""
    if provider != Telnyx.name:
        raise click.UsageError("--new-key is for telnyx; the others have one shared secret")
    private, public = new_key()
    click.echo(f"{Telnyx.secret_variable}={private}\nTELNYX_PUBLIC_KEY={public}")


if __name__ == "__main__":
    main(prog_name="python -m simulator")
