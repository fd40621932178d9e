"""make demo: one call per carrier through the whole path, on this machine, then two that must fail.

Starts the gateway and the bridge as processes on free loopback ports, the bridge as the Procfile
does, and rings it with the simulator. No account, no phone, no internet; nothing stays behind.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
PATIENCE_S = 30.0
CARRIERS = ("twilio", "plivo", "telnyx")


class DemoFailed(Exception):
    """Something did not work. The message says what, and shows the log where there is one."""


def main() -> int:
    """Tell the story; return the exit code."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stage:
        try:
            tell(Path(folder), stage)
        except DemoFailed as failure:
            print(f"\nThe demo failed: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            return 130
    print('\nEverything works. Next: "Point a number at it" in README.md.')
    return 0


def tell(logs: Path, stage: contextlib.ExitStack) -> None:
    """Set the stage and make the calls."""
    gateway_url, bridge_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    env = environment(gateway_url, bridge_url, logs)

    say(f"Pipecat Cloud, played by the gateway   {gateway_url}")
    gateway = [sys.executable, "-m", "gateway", "--port", port_of(gateway_url)]
    start(stage, gateway, env, logs / "gateway.log", gateway_url)
    say(f"the bridge, as the Procfile runs it    {bridge_url}")
    start(stage, procfile_command(), env, logs / "bridge.log", bridge_url)

    print()
    for carrier in CARRIERS:
        call = ring(env, bridge_url, carrier, expected_exit=0)
        say(
            f"{carrier:6} rings: XML after {call['webhook_ms']:.0f} ms, "
            f"socket open after {call['socket_ms']:.0f} ms, "
            f"bot heard after {call['first_audio_ms']:.0f} ms, {call['heard_s']} s of audio back"
        )
    print()
    call = ring(env, bridge_url, "twilio", "--replay", expected_exit=0)
    tried = [step["what"] for step in call["timeline"] if "spent token" in step["what"]]
    say(f"after a twilio call, {tried[0]}")
    for carrier in CARRIERS:
        call = ring(env, bridge_url, carrier, "--bad-signature", expected_exit=3)
        say(f"a forged {carrier} webhook: {call['reason']}")
    call = ring(env, bridge_url, "telnyx", "--refuse-socket", expected_exit=3)
    say(f"a telnyx stream that fails: {call['reason'].partition('; ')[2]}")


def say(line: str) -> None:
    """Print one line of the story as soon as it has happened."""
    print(f"  {line}", flush=True)


def environment(gateway_url: str, bridge_url: str, folder: Path) -> dict[str, str]:
    """Return the settings of all three, whatever this shell or a .env file says."""
    keys = subprocess.run(
        [sys.executable, "-m", "simulator", "telnyx", "--new-key"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return {
        **os.environ,
        **dict(line.split("=", 1) for line in keys.stdout.split()),
        "PUBLIC_URL": bridge_url,
        "PIPECAT_AGENT": "my-agent",
        "PIPECAT_PUBLIC_KEY": "pk_local",
        "PIPECAT_START_URL": f"{gateway_url}/v1/public/{{agent}}/start",
        "PIPECAT_TRANSPORT": "websocket",
        "PIPECAT_WEBSOCKET_AUTH": "token",
        "NUMBERS": "[default]",  # not those of a numbers.toml in this folder
        "NUMBERS_FILE": "",
        "START_DEADLINE_S": "5",
        "DATABASE_URL": f"sqlite:///{folder / 'ledger.sqlite3'}",
        "TWILIO_AUTH_TOKENS": "",
        "TWILIO_SHARED_KEYS": "",
        "TWILIO_AUTH_TOKEN": "demo-twilio-auth-token",
        "PLIVO_AUTH_TOKEN": "demo-plivo-auth-token",
        "PORT": port_of(bridge_url),
        "WEB_CONCURRENCY": "2",
        "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port_of(bridge_url)}",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def procfile_command() -> list[str]:
    """Return what the Procfile starts as `web`."""
    found = re.search(r"^web: (.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    if not found:
        raise DemoFailed("the Procfile has no line that begins with 'web: '")
    return shlex.split(found.group(1))


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def port_of(url: str) -> str:
    """Return the port of one of our URLs."""
    return url.rpartition(":")[2]


def start(
    stage: contextlib.ExitStack, command: list[str], env: Mapping[str, str], log: Path, url: str
) -> subprocess.Popen[bytes]:
    """Start a process that ends with the demo, wait until it answers HTTP, and return it."""
    process = stage.enter_context(running(command, env, log))
    end = time.monotonic() + PATIENCE_S
    while not answers(f"{url}/health"):
        if process.poll() is not None or time.monotonic() > end:
            raise DemoFailed(f"{shlex.join(command)} does not answer:\n{log.read_text()}")
        time.sleep(0.05)
    return process


@contextlib.contextmanager
def running(
    command: list[str], env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own, and end the whole group."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def answers(url: str) -> bool:
    """Say whether somebody answers HTTP there; any status will do."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def ring(
    env: Mapping[str, str], bridge_url: str, carrier: str, *switches: str, expected_exit: int
) -> dict[str, Any]:
    """Make one simulated call and return its report."""
    command = [sys.executable, "-m", "simulator", carrier, "--json", "--tone", "0.4"]
    command += ["--listen", "0.2", "--url", f"{bridge_url}/{carrier}/voice", *switches]
    result = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    if result.returncode != expected_exit:
        raise DemoFailed(f"{shlex.join(command)}\n{result.stdout}{result.stderr}")
    call: dict[str, Any] = json.loads(result.stdout)["calls"][0]
    return call


if __name__ == "__main__":
    sys.exit(main())
