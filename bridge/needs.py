"""What the lines need, all of them together, and neither file nor environment has said."""

import re

from bridge import checks
from bridge.line import Line, Lines
from bridge.socket_url import UnusableSocketUrl, check_socket_url, socket_url

HOST_LABEL = re.compile("[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def check_lines(lines: Lines, pattern: str, faults: list[str]) -> None:
    """Note what the lines need and the environment does not say; each variable once."""
    if not lines.default.agent and not lines.listed and lines.default.accept == "answer":
        faults.append("PIPECAT_AGENT is not set: the agent that answers")
    # Listed lines without an agent have been named; the default line may do without one then.
    answering = [
        line for line in lines if line.accept == "answer" and (line.agent or not lines.listed)
    ]
    if any(line.websocket_auth == "token" and not line.public_key for line in answering):
        faults.append(f"PIPECAT_PUBLIC_KEY {checks.public_key_problem('')}")
    for line in answering:
        if line.websocket_auth == "none" and (problem := socket_problem(line, pattern)):
            faults.append(f"websocket_auth is none for agent {line.agent}, and {problem}")


def socket_problem(line: Line, pattern: str) -> str | None:
    """Say why the socket URL of an agent that asks for no token cannot be built, or None."""
    if not line.organization and "{organization}" in pattern:
        return "PIPECAT_ORGANIZATION (or the line's organization) is not set: whose it is"
    for what, value in (
        ("PIPECAT_REGION (or the line's region)", line.region),
        ("PIPECAT_ORGANIZATION (or the line's organization)", line.organization),
        ("its name (PIPECAT_AGENT, or the line's agent)", line.agent),
    ):
        if value and not HOST_LABEL.fullmatch(value):
            return f"{what} is {value!r}: give letters, digits and hyphens"
    try:
        check_socket_url(socket_url(pattern, line.region, line.agent, line.organization))
    except UnusableSocketUrl as error:
        return f"PIPECAT_SOCKET_URL {error}"
    return None
