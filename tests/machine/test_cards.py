"""Cards by name, and the stack that is assumed on one: what a release of torch brings, unless another cuDNN is asked."""

import pytest

from profiler.errors import UserError
from profiler.machine.cards import DEFAULT_GPU, assumed_stack, find_gpu, gpu_named, gpus
from profiler.machine.versions import bundled_cudnn


@pytest.mark.parametrize(
    ("release", "cudnn"),
    [
        ((2, 0, 1), 8500),
        ((2, 3, 1), 8902),
        ((2, 5, 1), 90100),
        ((2, 7, 1), 90501),
        ((2, 10, 0), 91002),
        ((2, 13, 0), 92000),
        ((3, 0, 0), 92600),
    ],
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


@pytest.mark.parametrize("version", ["9.9.9", "2.7.5", "2.99", "3.0.0", "2.x", "", "-1", "2.-1.0", "2.7.1 "])
def test_a_torch_that_there_is_not_is_refused(version: str) -> None:
    with pytest.raises(UserError, match=r"^torch: .*(2\.0\.0 to 2\.15\.0|2\.7\.1)"):
        assumed_stack(find_gpu("h200"), version)


@pytest.mark.parametrize("version", [1, -1, 0, 9500, 89999, 90511, 93500, 2**40])
def test_a_cudnn_that_there_is_not_is_refused(version: int) -> None:
    with pytest.raises(UserError, match=r"there is no version .* 8500 to 8907, or 90000 to 92600"):
        assumed_stack(find_gpu("h200"), "2.13.0", version)


@pytest.mark.parametrize(("torch", "cudnn"), [("2.13.0", 8902), ("2.1.0", 90100)])
def test_a_cudnn_of_another_major_version_is_one_that_torch_refuses(torch: str, cudnn: int) -> None:
    with pytest.raises(UserError, match="another major version"):
        assumed_stack(find_gpu("h200"), torch, cudnn)


@pytest.mark.parametrize("version", ["2.14.1", "2.15.0", "2.16.0", "2.17.0.dev20261101", "2.7.1", "2.13.0a0+git12"])
def test_a_torch_that_may_well_be_is_taken(version: str) -> None:
    assert assumed_stack(find_gpu("h200"), version).torch == version.split("+")[0]
