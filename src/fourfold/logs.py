"""Logging and progress bars side by side, and less of either."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

from fourfold.errors import MissingExtraError

_NOTICE = 25


class LoggingHandler(logging.Handler):
    """Writes log records between progress bars, so that bars stay in one piece.

    Args:
        level: Records below it are left out.
    """

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            tqdm.write(self.format(record))
            self.flush()
        except Exception:
            self.handleError(record)


class disabled_tqdm(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
    """A progress bar that is never shown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


@contextmanager
def disable_logging(highest_level: int = logging.CRITICAL) -> Iterator[None]:
    """Let no record up to a level through inside the block, whatever logger it goes to."""
    before = logging.root.manager.disable
    logging.disable(highest_level)
    try:
        yield
    finally:
        logging.disable(before)


def install_logger(
    given_logger: logging.Logger, level: int = logging.WARNING, fmt: str = "%(levelname)s:%(name)s:%(message)s"
) -> None:
    """Let a logger write in colours, with the further level NOTICE (25); needs the package coloredlogs.

    Raises:
        MissingExtraError: If coloredlogs is not installed.
    """
    try:
        import coloredlogs
    except ImportError:
        raise MissingExtraError("install_logger needs a package: pip install coloredlogs") from None
    logging.addLevelName(_NOTICE, "NOTICE")
    styles = {**coloredlogs.DEFAULT_LEVEL_STYLES, "notice": {"color": "cyan", "bold": True}}
    coloredlogs.install(logger=given_logger, level=level, fmt=fmt, level_styles=styles)
