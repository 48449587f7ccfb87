import logging
import sys
import types

import pytest
from tqdm.auto import tqdm

from fourfold.errors import MissingExtraError
from fourfold.logs import LoggingHandler, disable_logging, disabled_tqdm, install_logger


@pytest.fixture
def logger():
    made = logging.getLogger("a logger of tests")
    made.propagate = False
    yield made
    made.handlers.clear()


def test_records_are_written_beside_bars(logger, capsys):
    logger.addHandler(LoggingHandler(logging.INFO))
    logger.setLevel(logging.DEBUG)
    with tqdm(total=3, file=sys.stderr) as bar:
        bar.update(1)
        logger.info("a line")
        logger.debug("not this")
    assert capsys.readouterr().out == "a line\n"


def test_a_record_that_cannot_be_written_is_reported_not_raised(capsys):
    LoggingHandler().handle(logging.LogRecord("name", logging.ERROR, "file", 1, "%d", ("no number",), None))
    assert "Logging error" in capsys.readouterr().err


def test_nothing_is_logged_inside_the_block(logger):
    before = logging.root.manager.disable
    with disable_logging():
        assert not logger.isEnabledFor(logging.CRITICAL)
    assert logger.isEnabledFor(logging.CRITICAL)
    with disable_logging(logging.INFO):
        assert logger.isEnabledFor(logging.WARNING)
    assert logging.root.manager.disable == before


def test_a_disabled_bar_is_never_shown(capsys):
    assert list(disabled_tqdm(range(3), disable=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_colours_need_their_package(logger, monkeypatch):
    monkeypatch.setitem(sys.modules, "coloredlogs", None)
    with pytest.raises(MissingExtraError, match="pip install coloredlogs"):
        install_logger(logger)
    calls = []
    fake = types.SimpleNamespace(DEFAULT_LEVEL_STYLES={"info": {}}, install=lambda **options: calls.append(options))
    monkeypatch.setitem(sys.modules, "coloredlogs", fake)
    install_logger(logger, level=10)
    assert calls[0]["logger"] is logger
    assert calls[0]["level"] == 10
    assert set(calls[0]["level_styles"]) == {"info", "notice"}
    assert logging.getLevelName(25) == "NOTICE"
