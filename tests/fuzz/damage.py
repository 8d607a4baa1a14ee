"""Damage as disks, editors and other programs do it: to bytes, and to the values of a JSON text."""

import re
from collections.abc import Callable
from random import Random

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null')
WEIRD = (
    b"null", b"true", b"false", b'""', b'"x"', b"[]", b"{}", b"[null]", b'{"": null}', b"0", b"-1", b"0.5", b"1e308",
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9223372036854775808", b"1" + b"0" * 400, b"1" + b"0" * 5000,
    b"-" + b"9" * 30, b'"' + b"x" * 100_000 + b'"', b"[" * 5000, b"[" * 2000 + b"]" * 2000, b'"\\u0000"', b'"\\ud800"',
    b'"\\u001b[2J"', b'"\x00\x1b"', b'"\xff\xfe"', b'"../../x"', b'"=cmd|x"', b'"<script>"', b'"[red]"', b'"NaN"', b"",
)  # fmt: skip


def flip(random: Random, data: bytes) -> bytes:
    """One bit is another."""
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def cut(random: Random, data: bytes) -> bytes:
    """The end is missing, or all."""
    return data[: random.choice([0, random.randrange(len(data)), len(data) - 1])]


def drop(random: Random, data: bytes) -> bytes:
    """Some bytes are missing."""
    at = random.randrange(len(data))
    return data[:at] + data[at + random.choice([1, 2, 8, 64]) :]


def double(random: Random, data: bytes) -> bytes:
    """Some bytes are there twice, or all."""
    at, many = random.randrange(len(data)), random.choice([1, 8, 64, len(data)])
    return data[: at + many] + data[at:]


def insert(random: Random, data: bytes) -> bytes:
    """Foreign bytes stand in between."""
    at = random.choice([0, random.randrange(len(data)), len(data)])
    foreign = random.choice([b"\0" * 512, b"\xff", b"\n", b"\n\n", b"\r\n", b"\xef\xbb\xbf", random.randbytes(8)])
    return data[:at] + foreign + data[at:]


def zero(random: Random, data: bytes) -> bytes:
    """A part is all zeros, as after a crash of the file system."""
    at, many = random.randrange(len(data)), random.choice([1, 64, len(data)])
    return data[:at] + bytes(len(data[at : at + many])) + data[at + many :]


def another_value(random: Random, data: bytes) -> bytes:
    """A value, or a name, is of another type or beyond every bound."""
    found = [*TOKEN.finditer(data)]
    if not found:
        return data + random.choice(WEIRD)
    token = random.choice(found)
    number = str(random.choice([0, 1, -1, 7, 2**31, 2**63, 10**12, 10**30])).encode()
    return data[: token.start()] + random.choice([*WEIRD, number, number, number]) + data[token.end() :]


def swapped(random: Random, data: bytes) -> bytes:
    """Two values have changed places."""
    found = [*TOKEN.finditer(data)]
    if len(found) < 2:
        return data[::-1]
    one, other = sorted(random.sample(found, 2), key=lambda token: token.start())
    return data[: one.start()] + other[0] + data[one.end() : other.start()] + one[0] + data[other.end() :]


IN_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (flip, cut, drop, double, insert, zero)
IN_VALUES: tuple[Callable[[Random, bytes], bytes], ...] = (another_value, another_value, another_value, swapped)


def damaged(random: Random, data: bytes, ways: tuple[Callable[[Random, bytes], bytes], ...] = IN_BYTES) -> bytes:
    """`data` after one to three accidents, each in one of `ways`; never as it was."""
    found = data
    while found == data:
        for _ in range(random.randint(1, 3)):
            found = random.choice(ways)(random, found or b"\0")
    return found
