"""Cards by name, and the stack that is assumed on one: what a release of torch brings, unless another cuDNN is asked."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from profiler.data.units import GIB, parse_bytes
from profiler.errors import UserError
from profiler.files.load import built, from_dict, read_yaml, to_dict
from profiler.machine.cards import (
    DEFAULT_GPU,
    GPUS,
    SHARED,
    Gpu,
    assumed_stack,
    cards_of,
    find_gpu,
    gpu_named,
    gpus,
    siblings,
)
from profiler.machine.target import target_stack
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
        assert find_gpu(card.name, (card.box_gib or 0) * GIB) is card
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


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("GeForce RTX 4070 Ti SUPER", "rtx-4070-ti-super"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("Tesla T4", "t4"),
        ("nvidia_a100", "a100"),
        ("RTX 4070 Super 12 GB", "rtx-4070-super"),
        ("4070 super", "rtx-4070-super"),
        ("4060 Ti 16GB", "rtx-4060-ti-16gb"),
        ("L40S 48 GB", "l40s"),
        ("RTX4090", "rtx-4090"),
        ("rtx3060 12GB", "rtx-3060-12gb"),
        ("4070Ti Super", "rtx-4070-ti-super"),
        ("RTXA6000", "rtx-a6000"),
    ],
)
def test_a_card_goes_by_what_people_call_it(name: str, found: str) -> None:
    assert find_gpu(name).id == found


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "rtx-6090", "gtx-1080", "", "h-100-x", "rtx 4070 super 24GB"]
)
def test_a_card_that_there_is_not_is_told_with_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=r"^no card .*latentmeter cards.*--dump-card"):
        find_gpu(name)


@pytest.mark.parametrize(
    "name", ["AMD Radeon RX 7900 XTX", "rx 9070", "RX7900", "MI300X", "Apple M3 Max", "m4-pro", "Intel Arc B580"]
)
def test_another_vendors_card_is_not_covered(name: str) -> None:
    with pytest.raises(UserError, match="not covered"):
        find_gpu(name)


def test_a_shipped_file_is_read_unchecked_as_it_is_read_checked() -> None:
    for path in GPUS.glob("*.yaml"):
        data = read_yaml(path)
        assert repr(built(Gpu, data)) == repr(
            from_dict(Gpu, data)
        )  # which tells a tuple from a list, 1 from 1.0 and true
        assert built(Gpu, data) == from_dict(Gpu, data)


def test_every_value_has_a_source_and_no_total_exceeds_the_box() -> None:
    for card in gpus().values():
        values = {name for name in vars(card) if name not in ("id", "sources", "reserve_bytes")}
        assert values - card.sources.keys() <= {"context_bytes"}, card.id
        assert card.box_gib
        assert 0.8 * card.box_gib * GIB < card.total_bytes < card.box_gib * GIB, card.id


def test_a_card_with_another_memory_lacks_as_much_of_it() -> None:
    card = find_gpu("rtx-4090")
    modified = find_gpu("rtx-4090", 48 * GIB, 2 * GIB)
    assert modified.total_bytes - card.total_bytes == 24 * GIB
    assert (modified.id, modified.name) == ("rtx-4090-49152mib-less-2048mib", card.name)
    assert assumed_stack(modified).reserve_bytes == 2 * GIB
    assert assumed_stack(card).settings == {}


def test_a_memory_alone_stands_for_one_card_of_each_architecture() -> None:
    found = cards_of(12 * GIB)
    assert {card.capability for card in found} == {(7, 5), (8, 6), (8, 9), (12, 0)}
    assert {card.box_gib for card in found} == {12}
    assert {card.box_gib for card in cards_of(13 * GIB)} == {16}
    assert all(card.capability >= (7, 5) for card in cards_of(16 * GIB))


def test_a_file_of_a_card_is_as_good_as_its_id(tmp_path: Path) -> None:
    card = find_gpu("l40s")
    data = {
        **to_dict(card, mode="json", exclude={"box_gib", "reserve_bytes"}),
        "id": "mine",
        "name": "Somebody's card",
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    found = find_gpu(str(path))
    assert (found.id, found.total_bytes) == ("mine", card.total_bytes)
    assert gpu_named("Somebody's card") is found
    assert find_gpu(str(path), 24 * GIB).total_bytes < 24 * GIB
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        find_gpu(str(tmp_path / "nowhere.yaml"))


def test_a_sibling_has_the_same_architecture_multiprocessors_and_shared_memory() -> None:
    assert [card.id for card in siblings((8, 6), 80, {})] == ["a10g"]
    assert [card.id for card in siblings((9, 0), 132, {})] == ["h100", "h200"]
    for unlike in (((8, 6), 79, {}), ((8, 6), 80, {SHARED: 1}), (None, None, {})):
        assert not list(siblings(*unlike))


def test_a_size_that_would_not_be_applied_is_an_error() -> None:
    stack = assumed_stack(find_gpu("h200"))
    with pytest.raises(UserError, match="vram: a stack has its own"):
        target_stack(None, None, None, stack, vram="12GiB")
    with pytest.raises(UserError, match="no caching allocator"):
        target_stack(None, None, None, replace(stack, device="cpu"), reserve="1GiB")
    assert target_stack(None, None, None, stack, reserve="0.5 GiB")[0].reserve_bytes == GIB // 2


@pytest.mark.parametrize(
    ("text", "size"), [("12", 12 * GIB), ("12GB", 12 * GIB), ("11.5 gib", 23 * GIB // 2), ("512MiB", GIB // 2)]
)
def test_a_memory_size_is_read_as_a_box_writes_it(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "1e3GiB", "12KiB", "12TiB", "nan", "12 G B", "1_0GiB"])
def test_what_is_no_memory_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no memory size; expected one such as 12GiB"):
        parse_bytes(text)
