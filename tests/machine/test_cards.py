"""Cards by name, and the stack that is assumed on one: what a release of torch brings, unless another cuDNN is asked."""

import pytest

from profiler.errors import UserError
from profiler.machine.cards import DEFAULT_GPU, assumed_stack, bundled_cudnn, find_gpu, gpu_named, gpus
from profiler.machine.live import VARIABLES, live_stack


@pytest.mark.parametrize(
    ("release", "cudnn"),
    [((2, 5, 1), 90100), ((2, 7, 1), 90501), ((2, 10, 0), 91002), ((2, 13, 0), 92000), ((3, 0, 0), 92600)],
)
def test_a_release_has_the_cudnn_of_its_own_wheel_or_of_the_newest_before(
    release: tuple[int, int, int], cudnn: int
) -> None:
    assert bundled_cudnn(release) == cudnn


def test_a_stack_is_the_cards_with_the_asked_versions() -> None:
    card = find_gpu("RTX 4090")
    stack = assumed_stack(card, "2.7.1+cu126")
    assert (stack.gpu, stack.capability, stack.device_total_bytes) == (card.name, card.capability, card.total_bytes)
    assert (stack.torch, stack.cudnn) == ("2.7.1", 90501)
    assert assumed_stack(card, "2.7.1", 91002).cudnn == 91002
    with pytest.raises(UserError, match=r"such as 2\.7\.1, got '1\.13'"):
        assumed_stack(card, "1.13")


def test_every_card_is_found_by_its_id_and_by_its_own_name() -> None:
    for gpu_id, card in gpus().items():
        assert find_gpu(gpu_id) is card
        assert gpu_named(card.name) in [other for other in gpus().values() if other.name == card.name]
    assert gpu_named("Some other card") is None
    assert DEFAULT_GPU in gpus()


@pytest.mark.parametrize("name", VARIABLES)
def test_what_changes_memory_is_part_of_the_stack(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = live_stack("cpu")
    monkeypatch.setenv(name, "a value")
    after = live_stack("cpu")
    assert after.settings == before.settings | {name: "a value"}
    assert after.fingerprint != before.fingerprint


def test_the_variables_are_those_that_torch_and_its_libraries_read() -> None:
    assert {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"} <= set(VARIABLES)
    assert {"CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE", "NVIDIA_TF32_OVERRIDE"} <= set(VARIABLES)
