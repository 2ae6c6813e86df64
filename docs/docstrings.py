"""Reads this project's docstrings for mkdocstrings: an extension of griffe.

Sections follow each other without an empty line, and a short one stands on the
line of its name, as in `Returns: [batch].` Griffe wants an empty line above
each name and the text below it. "Call" and "Source", which Google's style does
not have, become paragraphs.
"""

import re

import griffe

_ITEMS = ("Args", "Attributes", "Example", "Raises", "Returns", "Yields")
_TEXTS = ("Call", "Source")
_HEADER = re.compile(rf"({'|'.join(_ITEMS + _TEXTS)}):(?: +(\S.*))?")


def apart(text: str) -> str:
    """The docstring with each section below an empty line, and indented."""
    lines, further = [], ""
    for line in text.splitlines():
        header = _HEADER.fullmatch(line)
        if not header:
            lines.append(further + line if line else "")
            continue
        name, first = header.groups()
        if name in _TEXTS:
            lines += ["", f"**{name}:** {first or ''}"]
        else:
            lines += ["", f"{name}:", *([f"  {first}"] if first else [])]
        # What goes on below a first line belongs to that line.
        further = "  " if first and name in _ITEMS else ""
    return "\n".join(lines)


class Docstrings(griffe.Extension):
    """Sets the sections of each docstring apart before they are read."""

    def on_object(self, *, obj, **kwargs):
        """Called with each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = apart(obj.docstring.value)
