"""What a command says about itself: on stderr, so that stdout holds nothing but the answer."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"fourfold: {message}\n")
