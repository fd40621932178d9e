"""Text from outside must neither break nor extend the XML it is put into."""

import re

from markupsafe import Markup, escape

# What XML 1.0 cannot hold, not even escaped. https://www.w3.org/TR/xml/#charsets
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# As they are, a parser would read them as blanks in an attribute.
LAYOUT = str.maketrans({character: f"&#{ord(character)};" for character in "\t\n\r{"})


def xml_text(value: object) -> Markup:
    """Return `value` for a place between tags or quotes; every `{{ ... }}` of a template is.

    Control characters go. A brace becomes a character reference, the same text to every XML
    parser, because Telnyx may look for mustache templates in what it fetches.
    https://developers.telnyx.com/docs/voice/programmable-voice/texml-interpreter
    """
    if value is None:
        raise TypeError("a template was given None: no carrier can act on the word 'None'")
    text = CONTROL.sub("", NOT_XML.sub("", str(value)))
    return Markup(str(escape(text)).translate(LAYOUT))  # noqa: S704
