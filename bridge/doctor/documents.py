"""Whether every document that a caller may get is XML which a carrier can read."""

from collections.abc import Iterator
from xml.etree import ElementTree

import jinja2

from bridge.doctor.findings import Finding
from bridge.errors import StartFailed
from bridge.line import Line
from bridge.settings import Settings
from bridge.start import Session
from bridge.stream import CallbackUrls, stream_for
from providers.base import Call, Provider

CALL = Call("specimen-call", "+14155550100", "+14155550199", name="Zoë & <Sons>")
SESSION = Session("wss://example.com/ws/generic/specimen.specimen", "specimen-token", "specimen")


def check_documents(settings: Settings, templates: jinja2.Environment) -> Iterator[Finding]:
    """Render every template of every carrier for every line."""
    for provider in settings.providers:
        folder = f"{provider.name}/"
        names = [name for name in templates.list_templates(["xml"]) if name.startswith(folder)]
        problems = [
            Finding("error", f"{name}: {problem}", "restore the file from the repository")
            for name in sorted(names)
            if (problem := problem_with(templates, name, provider, settings))
        ]
        yield from problems
        if not names:
            yield Finding("error", f"templates/{provider.name} has no document", "deploy it too")
        elif not problems:
            events = ", ".join(name.partition("/")[2] for name in sorted(names))
            yield Finding("ok", f"{provider.name}: {events} are good XML")


def problem_with(
    templates: jinja2.Environment, name: str, provider: Provider, settings: Settings
) -> str | None:
    """Return why a document cannot be used, or None. The document itself is never shown."""
    for line in settings.lines:
        try:
            values = specimen(provider, line, settings.public_url)
            # It is our own document, not one from outside.
            root = ElementTree.fromstring(templates.get_template(name).render(values))  # noqa: S314
        except jinja2.TemplateError as error:
            return f"does not render: {type(error).__name__}: {error}"[:200]
        except ElementTree.ParseError as error:
            return f"is no XML: {error}"
        except StartFailed as error:
            return str(error)
        if root.tag != "Response":
            return f"begins with <{root.tag}>, not <Response>"
    return None


def specimen(provider: Provider, line: Line, public_url: str) -> dict[str, object]:
    """Return what the bridge would fill in for a made-up call."""
    urls = CallbackUrls(public_url, provider.name)
    return {
        "stream": stream_for(provider, CALL, line.body, SESSION),
        "after_url": urls.after(0),
        "stream_status_url": urls.stream,
        "sorry": line.sorry.to(CALL),
        "hold": line.hold,
        "voice": provider.voice(line.sorry.voice),
        "voice_url": urls.voice(1),
        "wait_s": 5,
        "reason": "busy",
    }
