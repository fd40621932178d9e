"""Reads the bridge's answer as strictly as a carrier might: what is not known is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit
from xml.etree import ElementTree

from simulator.carrier import AnswerRefused, Carrier, StreamOrder
from simulator.grammar import Element

MEDIA_TYPES = {"text/xml", "application/xml"}
LONGEST_WAIT_S = 180


@dataclass(frozen=True)
class Say:
    """A robot voice speaks to the caller."""

    words: str


@dataclass(frozen=True)
class Wait:
    """The caller waits."""

    seconds: int


@dataclass(frozen=True)
class Dial:
    """Somebody else's phone rings."""

    number: str
    timeout_s: str
    caller_id: str


@dataclass(frozen=True)
class Redirect:
    """Another document takes over."""

    url: str
    method: str


@dataclass(frozen=True)
class Connect:
    """The caller talks to a bot; `action` has the next document, if it is named here."""

    order: StreamOrder
    action: Redirect | None


@dataclass(frozen=True)
class Hangup:
    """The call ends; with a reason, before it was answered."""

    reason: str = ""


Step = Say | Wait | Dial | Redirect | Connect | Hangup


@dataclass(frozen=True)
class Document:
    """What the carrier is told to do, in this order."""

    steps: tuple[Step, ...]

    @property
    def stream(self) -> StreamOrder | None:
        """The stream, if there is one."""
        orders = [step.order for step in self.steps if isinstance(step, Connect)]
        return orders[0] if orders else None


def read_document(carrier: Carrier, content_type: str, body: bytes) -> Document:
    """Return what the document orders, or raise AnswerRefused naming what is wrong."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise AnswerRefused(f"Content-Type is {content_type!r}, not text/xml")
    if len(body) > carrier.longest_document_bytes:
        raise AnswerRefused(f"{len(body)} bytes, {carrier.longest_document_bytes} are allowed")
    if not body.startswith(b"<"):
        raise AnswerRefused("the document does not begin at its first byte")
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise AnswerRefused("a DOCTYPE is not accepted")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError as error:
        raise AnswerRefused(f"not well-formed XML: {error}") from error
    if root.tag != "Response":
        raise AnswerRefused(f"the root is <{root.tag}>, not <Response>")
    check_element(root, carrier.document)
    streams = list(root.iter("Stream"))
    if len(streams) > 1:
        raise AnswerRefused(f"{len(streams)} <Stream> elements; a call has one")
    return Document(tuple(read_step(carrier, element) for element in root))


def read_step(carrier: Carrier, element: ElementTree.Element) -> Step:
    """Return one step of the document."""
    text = "".join(element.itertext()).strip()
    match element.tag:
        case "Say" | "Speak":
            return Say(text)
        case "Pause" | "Wait":
            return Wait(read_wait(element.get("length", "1")))
        case "Dial":
            return Dial(text, element.get("timeout", ""), element.get("callerId", ""))
        case "Redirect":
            return Redirect(text, element.get("method", "POST"))
        case "Hangup":
            return Hangup(element.get("reason", ""))
        case "Reject":
            return Hangup(element.get("reason", "rejected"))
        case "Connect":
            action = element.get("action")
            then = Redirect(action, element.get("method", "POST")) if action else None
            return Connect(read_stream(carrier, element[0]), then)
        case "Stream":
            return Connect(read_stream(carrier, element), None)
    raise AnswerRefused(f"<{element.tag}> is not played by this simulator")


def read_wait(length: str) -> int:
    """Return the seconds of a <Pause> or <Wait>."""
    if not length.isdecimal() or not 1 <= int(length) <= LONGEST_WAIT_S:
        raise AnswerRefused(f"a wait of {length!r} s; 1 to {LONGEST_WAIT_S} are allowed")
    return int(length)


def check_element(element: ElementTree.Element, known: Mapping[str, Element]) -> None:
    """Raise AnswerRefused for an unknown attribute, child or text, here or below."""
    rule = known[element.tag]
    for name in element.attrib:
        if name not in rule.attributes:
            raise AnswerRefused(f"<{element.tag}> has no attribute {name!r}")
    texts = [element.text, *(child.tail for child in element)]
    if not rule.holds_text and any(text and text.strip() for text in texts):
        raise AnswerRefused(f"<{element.tag}> holds no text")
    for child in element:
        if child.tag not in rule.children:
            raise AnswerRefused(f"<{element.tag}> has no child <{child.tag}>")
        check_element(child, known)


def read_stream(carrier: Carrier, element: ElementTree.Element) -> StreamOrder:
    """Return the stream, its URL from the attribute or from the text."""
    attributes = dict(element.attrib)
    url = attributes.pop("url", "") or (element.text or "")
    check_url(url)
    parameters = {}
    for parameter in element.iter("Parameter"):
        name, value = parameter.get("name"), parameter.get("value")
        if not name or value is None:
            raise AnswerRefused("a <Parameter> lacks its name or its value")
        parameters[name] = value
    order = StreamOrder(url, attributes, parameters)
    carrier.check_stream(order)
    return order


def check_url(url: str) -> None:
    """Raise AnswerRefused for a URL that no carrier opens. Its text is not repeated."""
    if url != url.strip() or not url.isascii() or not url.isprintable() or " " in url:
        raise AnswerRefused("the stream's URL has blanks or characters that no URL has")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise AnswerRefused("the stream's URL cannot be parsed") from error
    if not host or parts.scheme not in ("wss", "ws"):
        raise AnswerRefused("the stream's URL is no wss:// URL with a host")
    if parts.scheme == "ws" and not is_loopback(host):
        raise AnswerRefused("the stream's URL is ws://; only a loopback host may go without TLS")


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
