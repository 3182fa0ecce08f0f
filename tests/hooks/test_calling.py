"""A file is executed once, and its functions are called with what they take."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forkserve.config.hooks import ARGUMENTS, Hook
from forkserve.hooks import calling
from forkserve.hooks.calling import Hooks
from forkserve.worker.app import BootError

Load = Callable[..., Hooks]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Writes a configuration file and loads the hooks of these names from it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)

    def write_and_load(source: str, *names: str) -> Hooks:
        path = tmp_path / "gunicorn.conf.py"
        path.write_text(source)
        hooks = [Hook(name, str(path), name) for name in names]
        return Hooks(hooks, str(tmp_path), ARGUMENTS)

    yield write_and_load
    calling._executed.clear()
    for name in set(sys.modules) - modules:
        if name.startswith("forkserve_file_"):
            del sys.modules[name]


def module() -> Any:
    return sys.modules["forkserve_file_gunicorn_conf"]


def test_a_file_is_executed_once_for_all_its_hooks(load: Load) -> None:
    source = (
        "import os\n"
        "said = [__file__]\n"
        "def on_starting(server): said.append(server)\n"
        "def post_fork(server, worker): said.append((server, worker))\n"
    )
    hooks = load(source, "on_starting", "post_fork")
    load(source, "on_starting").call("on_starting", "a server")
    hooks.call("post_fork", "a server", "a worker")
    hooks.call("on_exit", "a server")  # there is none
    path, *said = module().said
    assert path.endswith("gunicorn.conf.py")
    assert said == ["a server", ("a server", "a worker")]


def test_what_a_file_defines_can_be_pickled_and_be_a_dataclass(load: Load) -> None:
    source = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass, KW_ONLY\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "    _: KW_ONLY\n"
        "    y: int = 0\n"
        "def on_exit(server): server.append(Point(1, y=2))\n"
    )
    made: list[Any] = []
    load(source, "on_exit").call("on_exit", made)
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_function_that_takes_nothing_is_called_with_nothing(load: Load) -> None:
    hooks = load("called = []\ndef pre_fork(): called.append(1)\n", "pre_fork")
    hooks.call("pre_fork", "a server", "a worker")
    assert module().called == [1]


@pytest.mark.parametrize(
    ("source", "sentence", "where"),
    [
        (
            "\ndef post_fork(worker): pass",
            r"is called with (server, worker), but takes (worker)",
            ":2",
        ),
        ("def post_fork(server, worker, what): pass", "but takes (server, worker, what)", ":1"),
        ("async def post_fork(server, worker): pass", "is an async function", ":1"),
        ("post_fork = 7", "is of type int and no function", ""),
        ("x = 1", 'There is no "post_fork" in ', ""),
        ("x = 1\ndef post_fork(:", "failed: SyntaxError", ":2"),
        ("import sys\nsys.exit(4)", "failed: SystemExit: sys.exit(4) was called", ":2"),
        ("import no_such_thing", "failed: ModuleNotFoundError", ":1"),
    ],
)
def test_what_cannot_be_called_is_said_in_a_sentence(
    load: Load, source: str, sentence: str, where: str
) -> None:
    with pytest.raises(BootError) as caught:
        load(source, "post_fork")
    failure = caught.value.failure
    assert sentence in failure.headline
    assert failure.where.endswith(f"gunicorn.conf.py{where}" if where else failure.where)
    assert "forkserve/hooks" not in failure.details


def test_a_file_that_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.py")
    with pytest.raises(BootError, match="cannot be read: No such file or directory"):
        Hooks([Hook("on_exit", path, "on_exit")], str(tmp_path), ["on_exit"])


def test_what_a_hook_raises_is_said_with_its_place(load: Load) -> None:
    hooks = load("def when_ready(server):\n    server['x']\n", "when_ready")
    with pytest.raises(BootError) as caught:
        hooks.call("when_ready", {})
    failure = caught.value.failure
    assert failure.headline == "The hook when_ready of gunicorn.conf.py failed: KeyError: 'x'"
    assert failure.where.endswith("gunicorn.conf.py:2")
    assert failure.details.splitlines()[0] == "Traceback (most recent call last):"
    assert "forkserve" not in failure.details


def test_a_function_of_a_module_without_a_file(tmp_path: Path, load: Load) -> None:
    (tmp_path / "some_hooks_of_mine.py").write_text("called = []\ndef bye(): called.append(1)\n")
    try:
        hook = Hook("on_exit", "", "some_hooks_of_mine:bye")
        Hooks([hook], str(tmp_path), ["on_exit"]).call("on_exit", None)
        assert sys.modules["some_hooks_of_mine"].called == [1]
    finally:
        sys.modules.pop("some_hooks_of_mine", None)
