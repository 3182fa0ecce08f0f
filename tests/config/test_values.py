"""Small values as the user writes them."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from forkserve.config.owner import UNCHANGED, parse_owner
from forkserve.config.values import (
    AUTO,
    filled_in,
    parse_function,
    parse_mode,
    parse_name,
    parse_path,
    parse_size,
    parse_umask,
    parse_worker_env,
    parse_workers,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("2 G", 2 << 30),
        ("1.5GiB", 3 << 29),
        ("64KB", 64 << 10),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "512X", "1e3", "9" * 40])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write for example"):
        parse_size(text)


def test_a_variable_for_each_worker() -> None:
    name, value = parse_worker_env("CUDA_VISIBLE_DEVICES={slot}")
    numbers = {"slot": 3, "worker_id": 9, "generation": 2}
    assert (name, filled_in(value, numbers)) == ("CUDA_VISIBLE_DEVICES", "3")
    assert parse_worker_env("EMPTY=") == ("EMPTY", "")
    assert filled_in(parse_worker_env("A={{x}}={worker_id}")[1], numbers) == "{x}=9"


@pytest.mark.parametrize("text", ["", "NAME", "=1", "A B=1"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=VALUE"):
        parse_worker_env(text)


@pytest.mark.parametrize("value", ["{gpu}", "{", "{}", "{slot.x}", "{slot!q}"])
def test_unknown_places_are_refused_before_anything_runs(value: str) -> None:
    with pytest.raises(ValueError, match=r"only \{slot\}, \{worker_id\}, \{generation\}"):
        parse_worker_env(f"A={value}")


def test_functions_and_paths() -> None:
    assert parse_function("a.b:load.it") == "a.b:load.it"
    assert parse_path("/health?deep=1") == "/health?deep=1"
    for text in ("load", "a/b.py:load", ":load", "a:"):
        with pytest.raises(ValueError, match='is not "module:function"'):
            parse_function(text)
    for text in ("health", "", "/a b", "http://localhost/health"):
        with pytest.raises(ValueError, match="is not a path"):
            parse_path(text)


@pytest.mark.parametrize(
    ("text", "workers"), [("1", 1), (" 4 ", 4), ("512", 512), ("auto", AUTO), ("AUTO", AUTO)]
)
def test_a_number_of_workers(text: str, workers: int) -> None:
    assert parse_workers(text) == workers


@pytest.mark.parametrize("text", ["", "0", "513", "-1", "2.5", "four", "automatic", "9" * 9999])
def test_what_is_no_number_of_workers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='write 1 to 512, or "auto"'):
        parse_workers(text)


@pytest.mark.parametrize(
    ("text", "mask"), [("027", 0o27), ("27", 0o27), ("0", 0), ("0777", 0o777), ("0o22", 0o22)]
)
def test_a_mask_is_octal_however_it_is_written(text: str, mask: int) -> None:
    assert parse_umask(text) == mask


@pytest.mark.parametrize("text", ["", "8", "1777", "-1", "0x1", "027 ", "rwx"])
def test_what_is_no_mask_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an octal mask"):
        parse_umask(text)


def test_a_name_is_one_line() -> None:
    assert parse_name("shop 2") == "shop 2"
    for text in ("", "a\nb", "\x1b[31m"):
        with pytest.raises(ValueError, match="is not a name"):
            parse_name(text)


def test_permissions() -> None:
    assert parse_mode("660") == parse_mode("0660") == 0o660
    assert str(parse_mode("0600")) == "600"
    for text in ("", "66", "668", "4755", "rw-", "0o660", "-660"):
        with pytest.raises(ValueError, match="are no permissions in octal"):
            parse_mode(text)


def test_owners() -> None:
    me, mine = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    both = parse_owner(f"{me}:{mine}")
    assert (both.uid, both.gid, str(both)) == (os.getuid(), os.getgid(), f"{me}:{mine}")
    assert (parse_owner(me).uid, parse_owner(me).gid) == (os.getuid(), UNCHANGED)
    assert (parse_owner(f":{mine}").uid, parse_owner(f":{mine}").gid) == (UNCHANGED, os.getgid())
    assert (parse_owner("7:8").uid, parse_owner("7:8").gid) == (7, 8)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", r"is not USER\[:GROUP\]"),
        (":", r"is not USER\[:GROUP\]"),
        ("root:", r"is not USER\[:GROUP\]"),
        ("no such", "is no user of this system"),
        (":no such", "is no group of this system"),
        ("4294967295", "is no user of this system"),
        ("9" * 5000, "is no user of this system"),
    ],
    ids=lambda text: text[:12],
)
def test_who_is_nobody_owns_nothing(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_owner(text)
