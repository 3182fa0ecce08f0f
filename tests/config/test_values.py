"""Small values as the user writes them."""

from __future__ import annotations

import pytest

from forkserve.config.values import (
    AUTO,
    filled_in,
    parse_function,
    parse_path,
    parse_size,
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


@pytest.mark.parametrize("text", ["", "NAME", "=1", "1A=1", "A B=1"])
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
