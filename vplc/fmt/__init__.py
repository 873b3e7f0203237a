"""The formatter of Structured Text: one layout for everybody, and never another program."""

from vplc.fmt.style import Style
from vplc.fmt.text import Refused, format_text

__all__ = ["Refused", "Style", "format_text"]
