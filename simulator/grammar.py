"""Which elements and attributes a carrier's XML knows, written down as a table."""

from collections.abc import Mapping
from dataclasses import dataclass

TEXT = "#text"


@dataclass(frozen=True)
class Element:
    """One element: its attributes and its children, "#text" among them if it holds text."""

    attributes: frozenset[str]
    children: frozenset[str]

    @property
    def holds_text(self) -> bool:
        """Say whether there may be text in it."""
        return TEXT in self.children


def grammar(table: str) -> Mapping[str, Element]:
    """Read lines of the form `Element attribute attribute > Child Child`."""
    elements = {}
    for line in table.strip().splitlines():
        left, _, right = line.partition(">")
        name, *attributes = left.split()
        elements[name] = Element(frozenset(attributes), frozenset(right.split()))
    return elements
