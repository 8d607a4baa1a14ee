"""A file that a person wrote is plain data of a bounded size, or an error that names the file."""

import time
from pathlib import Path

import pytest

from profiler.errors import UserError
from profiler.files.load import MOST_BYTES, read_json, read_yaml
from profiler.files.write import check_output, write_atomically

ALIASES = "a: &a {x: [1, 2]}\nb: *a\nc: &c text\nd: *c\n"


def grown(levels: int) -> str:
    """Each mapping ten times in the next: 10 to the power of `levels` values in a few lines."""
    return "a0: &a0 1\n" + "".join(
        f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(levels)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-02-30", "2026-02-30"),
        ("2026-02-28", "2026-02-28"),
        ("=", "="),
        ("{<<: 1}", {"<<": 1}),
        ("0x10", 16),
        ("[1.5, null, true]", [1.5, None, True]),
    ],
)
def test_a_value_is_plain(tmp_path: Path, text: str, value: object) -> None:
    (tmp_path / "x.yaml").write_text(f"value: {text}")
    assert read_yaml(tmp_path / "x.yaml") == {"value": value}


def test_a_key_that_stands_twice_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1\nb:\n  c: 1\n  c: 2\n")
    with pytest.raises(UserError, match=r"x\.yaml: not YAML: key 'c' stands twice\n .* line 3"):
        read_yaml(tmp_path / "x.yaml")


def test_a_few_aliases_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(ALIASES)
    assert read_yaml(tmp_path / "x.yaml") == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": "text", "d": "text"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (grown(9), "more than 100,000 values"),
        ("a: &a [*a]", "nested more than 50 levels"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 50 levels"),
        ("a: " + "[" * 100_000, "nesting"),
        ("a: !!bool maybe", "KeyError"),
        ("a: !!int ''", "IndexError"),
        ("a: !!timestamp x", "AttributeError"),
        ("a: !!timestamp 2026-02-28", "a date"),
        ("a: !!binary aGk=", "a bytes"),
        ("a: !!set {b}", "a set"),
        ("? !!binary aGk=\n: 1", "a bytes"),
        ("a: !!python/object:os.system {}", "python/object"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: " + "9" * 25, "a number of more than 64 bits"),
        ("a: \x00", "#x0000"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("# " + "x" * MOST_BYTES, "more than 2.0 MiB"),
    ],
    ids=lambda text: text[:30],
)
def test_yaml_that_is_no_description_ends_at_once_with_its_name(tmp_path: Path, text: str, says: str) -> None:
    path, started = tmp_path / "x.yaml", time.perf_counter()
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": "\\ud800"}', "surrogates"),
        (b'{"a": ' + b"[" * 100_000, "depth"),
        (b'{"a": ' + b"9" * 5000 + b"}", "4300 digits"),
        (b'{"a": 1', "delimiter"),
        (b"[1]", "expected a mapping"),
        (b'{"a": [' + b"1," * 200_000 + b"1]}", "more than 100,000 values"),
    ],
    ids=lambda data: str(data[:20]),
)
def test_json_that_is_no_description_says_so(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=says) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/dev/zero", "more than"),
        ("/", "Is a dir"),
        ("a\0b", "null byte"),
        ("x" * 300, "name too long"),
        ("no", "No such"),
    ],
)
def test_a_path_that_is_no_file_says_so(path: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_yaml(Path(path))


def test_a_place_to_write_to_is_left_as_it_was(tmp_path: Path) -> None:
    check_output(tmp_path / "no" / "such" / "file", "file", force=False)
    check_output(tmp_path / "no" / "such", "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    check_output(tmp_path / "file", "file", force=True)
    check_output(tmp_path, "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_names_its_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomically(tmp_path / "folder", "text")
    assert caught.value.filename == str(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
