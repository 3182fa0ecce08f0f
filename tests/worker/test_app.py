"""What the user is told when the app cannot be loaded."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forkserve.supervisor.failures import BootFailure
from forkserve.worker.app import LAST_LINES, BootError, explain, load_app

Write = Callable[..., str]
_numbers = itertools.count()

APP = "async def app(scope, receive, send): pass\n"
APP_OBJECT = (
    "class App:\n    async def __call__(self, scope, receive, send): pass\n\n{name} = App()\n"
)


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a module of a name that no other test uses, and returns the name."""

    def write(source: str, prefix: str = "shop") -> str:
        name = f"{prefix}_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


def load(target: str, folder: Path, factory: bool = False) -> Any:
    return load_app(target, app_dir=str(folder), factory=factory)


def failure(target: str, folder: Path, factory: bool = False) -> BootFailure:
    with pytest.raises(BootError) as caught:
        load(target, folder, factory)
    return caught.value.failure


# What works.


def test_the_app_is_found_in_app_dir(write: Write, tmp_path: Path) -> None:
    name = write(APP)
    assert load(f"{name}:app", tmp_path) is sys.modules[name].app
    assert sys.path[0] == str(tmp_path)


def test_app_dir_is_put_on_the_path_once_and_made_absolute(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(APP)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        load_app(f"{name}:app", app_dir=".", factory=False)
    assert sys.path.count(str(tmp_path)) == 1


def test_a_dotted_attribute(write: Write, tmp_path: Path) -> None:
    name = write("class site:\n    async def app(scope, receive, send): pass\n")
    assert load(f"{name}:site.app", tmp_path) is sys.modules[name].site.app


def test_a_factory_is_called(write: Write, tmp_path: Path) -> None:
    name = write(APP + "def make(): return app\n")
    assert load(f"{name}:make", tmp_path, factory=True) is sys.modules[name].app


def test_a_function_without_the_flag_is_left_to_uvicorn(write: Write, tmp_path: Path) -> None:
    name = write("def make(): raise AssertionError\n")
    assert load(f"{name}:make", tmp_path) is sys.modules[name].make


# No module.


def test_a_missing_module_with_a_near_miss(write: Write, tmp_path: Path) -> None:
    name = write(APP)
    assert failure(f"{name}x:app", tmp_path) == BootFailure(
        f'There is no module "{name}x" to import (looked in {tmp_path} first, then on sys.path); '
        f'did you mean "{name}"?'
    )


def test_a_missing_module_like_nothing_there(write: Write, tmp_path: Path) -> None:
    write(APP)
    (tmp_path / "zzzz_data").mkdir()
    told = failure("zzzz_dat:app", tmp_path)
    assert told.headline.endswith("; check APP and --app-dir.")


def test_a_missing_parent_is_the_module_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop_parent").mkdir()
    (tmp_path / "shop_parent" / "__init__.py").touch()
    told = failure("shop_parnt.main:app", tmp_path)
    assert told.headline.startswith('There is no module "shop_parnt" to import')
    assert told.headline.endswith('did you mean "shop_parent"?')


def test_a_missing_submodule_is_looked_for_in_its_package(tmp_path: Path) -> None:
    (tmp_path / "shop_package").mkdir()
    (tmp_path / "shop_package" / "__init__.py").touch()
    (tmp_path / "shop_package" / "main.py").write_text(APP)
    told = failure("shop_package.mian:app", tmp_path)
    assert told.headline.endswith('did you mean "shop_package.main"?')


def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    told = failure("shop_nowhere:app", tmp_path / "gone")
    assert told.headline.endswith("check APP and --app-dir.")


def test_a_module_that_the_app_misses(write: Write, tmp_path: Path) -> None:
    name = write("x = 1\nimport shop_dependency\n")
    told = failure(f"{name}:app", tmp_path)
    assert told.headline == (
        f"{name} could not be imported: ModuleNotFoundError: No module named 'shop_dependency'"
    )
    assert told.where == f"{tmp_path / name}.py:2"


# An import that fails.


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\nraise ValueError('bad thing')", "ValueError: bad thing"),
        ("x = 1\nraise ValueError", "ValueError"),
        ("x = 1\nraise ValueError('one\\ntwo')", "ValueError: one"),
        ("import sys\nsys.exit(9)", "SystemExit: sys.exit(9) was called"),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
        ("import json\njson.loads('nope')", "JSONDecodeError: Expecting value: line 1 column 1"),
        ("x = 1\nexec('1 / 0')", "ZeroDivisionError: division by zero"),
        (
            "class Odd(Exception): __str__ = lambda self: 1 / 0\nraise Odd",
            "Odd: (its message cannot be shown)",
        ),
    ],
)
def test_an_exception_while_importing(write: Write, tmp_path: Path, source: str, said: str) -> None:
    name = write(source)
    told = failure(f"{name}:app", tmp_path)
    assert told.headline.startswith(f"{name} could not be imported: {said}")
    assert "\n" not in told.headline
    assert told.where == f"{tmp_path / name}.py:2"


def test_the_details_begin_with_the_users_code(write: Write, tmp_path: Path) -> None:
    name = write("x = 1\nraise ValueError('bad thing')")
    assert failure(f"{name}:app", tmp_path).details.splitlines() == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path / name}.py", line 2, in <module>',
        "    raise ValueError('bad thing')",
        "ValueError: bad thing",
    ]


def test_the_details_are_the_last_lines(write: Write, tmp_path: Path) -> None:
    name = write("def a(n):\n    a(n - 1) if n else 1 / 0\n\ndef b(): a(20)\nb()")
    lines = failure(f"{name}:app", tmp_path).details.splitlines()
    assert len(lines) == LAST_LINES
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_where_is_the_module_that_broke_and_not_the_one_that_imports_it(
    write: Write, tmp_path: Path
) -> None:
    inner = write("x = 1\n\n1 / 0\n")
    outer = write(f"import {inner}\n" + APP)
    assert failure(f"{outer}:app", tmp_path).where == f"{tmp_path / inner}.py:3"


def test_where_is_not_in_an_installed_package(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "shop_installed.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(installed)
    name = write("\nimport shop_installed\n")
    assert failure(f"{name}:app", tmp_path).where == f"{tmp_path / name}.py:2"


def test_where_is_in_an_installed_package_if_all_of_the_code_is(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "shop_all_installed.py").write_text("\n1 / 0\n")
    told = failure("shop_all_installed:app", installed)
    assert told.where == f"{installed / 'shop_all_installed.py'}:2"


def test_a_syntax_error_is_where_the_parser_stopped(write: Write, tmp_path: Path) -> None:
    broken = write("x = 1\nreturn 2\n")
    name = write(f"import {broken}\n")
    told = failure(f"{name}:app", tmp_path)
    assert told.headline == f"{name} could not be imported: SyntaxError: 'return' outside function"
    assert told.where == f"{tmp_path / broken}.py:2"


def test_a_syntax_error_in_a_string_is_where_it_is_compiled(write: Write, tmp_path: Path) -> None:
    name = write("x = 1\neval('1 +')\n")
    assert failure(f"{name}:app", tmp_path).where == f"{tmp_path / name}.py:2"


def test_ctrl_c_is_no_boot_failure(write: Write, tmp_path: Path) -> None:
    name = write("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load(f"{name}:app", tmp_path)


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    told = explain(OSError("gone"), "demo_app could not be started")
    assert told == BootFailure("demo_app could not be started: OSError: gone", "", "OSError: gone")


# No attribute.


@pytest.mark.parametrize(
    ("source", "path", "hint"),
    [
        ("application = 1", "aplication", 'did you mean "application"?'),
        ("apq = 1\n" + APP_OBJECT.format(name="apps"), "app", 'did you mean "apps"?'),
        (APP_OBJECT.format(name="web"), "service", "what looks like an app there: web."),
        ("x = 1", "service", "check APP."),
        ("class site:\n    main = 1", "site.mian", 'did you mean "site.main"?'),
        ("class site: pass", "site.web.app", "check APP."),
    ],
)
def test_a_missing_attribute(
    write: Write, tmp_path: Path, source: str, path: str, hint: str
) -> None:
    name = write(source)
    assert failure(f"{name}:{path}", tmp_path) == BootFailure(
        f'Module "{name}" has no attribute "{path}"; {hint}', f"{tmp_path / name}.py"
    )


def test_an_attribute_that_raises(write: Write, tmp_path: Path) -> None:
    name = write("def __getattr__(name):\n    if name == 'app': 1 / 0\n    raise AttributeError")
    told = failure(f"{name}:app", tmp_path)
    assert told.headline == (
        f'"app" in module "{name}" could not be read: ZeroDivisionError: division by zero'
    )
    assert told.where == f"{tmp_path / name}.py:2"


# No app.


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        (False, "and no ASGI app: it cannot be called; check APP."),
        (True, "but a factory needs to be callable; check APP and --factory."),
    ],
)
def test_not_callable(write: Write, tmp_path: Path, factory: bool, problem: str) -> None:
    name = write("app = 5")
    told = failure(f"{name}:app", tmp_path, factory)
    assert told.headline.startswith(f'"app" in module "{name}" is of type int')
    assert told.headline.endswith(problem)
    assert told.where == f"{tmp_path / name}.py"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('bad')", "ValueError: bad"),
        (
            "import sys; sys.exit('no database')",
            "SystemExit: sys.exit('no database') was called",
        ),
        ("int(None)", "TypeError: int() argument"),
    ],
)
def test_a_factory_that_raises(write: Write, tmp_path: Path, body: str, said: str) -> None:
    name = write(f"def make():\n    {body}\n")
    told = failure(f"{name}:make", tmp_path, factory=True)
    assert told.headline.startswith(f'The factory "make" in module "{name}" failed: {said}')
    assert told.where == f"{tmp_path / name}.py:2"
    assert "_made_by" not in told.details


def test_ctrl_c_in_a_factory_is_no_boot_failure(write: Write, tmp_path: Path) -> None:
    name = write("def make(): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load(f"{name}:make", tmp_path, factory=True)


def test_an_app_taken_for_a_factory(write: Write, tmp_path: Path) -> None:
    name = write(APP_OBJECT.format(name="app"))
    told = failure(f"{name}:app", tmp_path, factory=True)
    assert "cannot be called without arguments (TypeError: " in told.headline
    assert told.headline.endswith("; if it is the app itself, leave out --factory.")
    assert told.where == f"{tmp_path / name}.py"


@pytest.mark.parametrize(
    ("source", "kind", "hint"),
    [
        ("def make(): pass", "NoneType", "check what it returns."),
        ("async def make(): pass", "coroutine", "a factory cannot be an async function."),
    ],
)
def test_a_factory_that_returns_no_app(
    write: Write, tmp_path: Path, source: str, kind: str, hint: str
) -> None:
    name = write(source)
    assert failure(f"{name}:make", tmp_path, factory=True) == BootFailure(
        f'The factory "make" in module "{name}" returned something of type {kind}, '
        f"which is no ASGI app; {hint}",
        f"{tmp_path / name}.py",
    )
