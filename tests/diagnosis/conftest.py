"""Profiles of tiny models, made once."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from profiler.diagnosis.collect import estimated
from profiler.diagnosis.profile import Profile
from profiler.machine.target import target_stack
from profiler.models.find import find_model


@cache
def profile_of(model: str, stage: Any, side: int) -> Profile:
    spec = find_model(f"tests/models/{model}.yaml")
    return estimated(spec.workload(stage, height=side, width=side), spec, target_stack("h200", None, None)[0])[0]


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Profile]:
    """`tiny("tiny-video", "decode", 64)`."""
    return profile_of
