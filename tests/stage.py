"""A gateway and a bridge, each a process, and the simulator that calls them."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner, Result

import demo
from simulator.__main__ import CARRIERS
from simulator.__main__ import main as simulator
from simulator.audio import tone
from simulator.call import Script, make_call
from simulator.report import Report
from simulator.ringing import Ring
from tests.waiting import eventually


@dataclass
class Stage:
    """A running gateway and bridge, and their logs."""

    env: dict[str, str]
    bridge_url: str
    folder: Path

    @property
    def gateway_port(self) -> int:
        """Where the bridge looks for /start."""
        port = re.search(r":([0-9]+)/", self.env["PIPECAT_START_URL"])
        assert port
        return int(port.group(1))

    def simulate(self, carrier: str, *switches: str) -> Result:
        """Run the simulator's command in this process, for a short call."""
        url = f"--url={self.bridge_url}/{carrier}/voice"
        arguments = [carrier, url, "--tone=0.1", "--listen=0.1", *switches]
        return CliRunner().invoke(simulator, arguments, env=self.env)

    def later(self, carrier: str, then: Callable[[], None]) -> Result:
        """Run the simulator; do something else as soon as its caller has been put on hold."""
        with ThreadPoolExecutor() as other:
            before = self.logs().count(" is held for ")
            call = other.submit(self.simulate, carrier)
            assert eventually(lambda: self.logs().count(" is held for ") > before)
            then()
            return call.result(60)

    def ring(self, carrier: str) -> Report:
        """Make one short call from this process."""
        simulated = CARRIERS[carrier](self.env[CARRIERS[carrier].secret_variable])
        url = f"{self.bridge_url}/{carrier}/voice"
        signed = f"{self.env['PUBLIC_URL']}/{carrier}/voice"
        who = simulated.new_call("+14155550100", "+14155550123")
        return make_call(simulated, who, Script(Ring(url, signed), tone(0.1), listen_s=0.1))

    def logs(self) -> str:
        """Return everything that was written so far."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))


@contextlib.contextmanager
def stage(
    folder: Path, *gateway_options: str, access_log: str = "", **settings: str
) -> Iterator[Stage]:
    """Start both processes as `make demo` does; Heroku turns gunicorn's access log on."""
    gateway_url, bridge_url = (f"http://127.0.0.1:{demo.free_port()}" for _ in range(2))
    env = demo.environment(gateway_url, bridge_url, folder) | settings
    if access_log:
        env["GUNICORN_CMD_ARGS"] += f" --access-logfile {access_log}"
    with contextlib.ExitStack() as processes:
        gateway = [sys.executable, "-m", "gateway", "--port", demo.port_of(gateway_url)]
        demo.start(
            processes, [*gateway, *gateway_options], env, folder / "gateway.log", gateway_url
        )
        demo.start(processes, demo.procfile_command(), env, folder / "bridge.log", bridge_url)
        yield Stage(env, bridge_url, folder)
