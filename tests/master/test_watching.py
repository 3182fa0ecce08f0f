"""Which files are watched for a reload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkserve.config.settings import Settings
from forkserve.master.watching import Wanted


def wanted(**settings: Any) -> Wanted:
    return Wanted.by(Settings("app:app", **settings))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("shop", "node_modules"):
        (tmp_path / folder).mkdir()


def here(path: str) -> str:
    return str(Path(path).resolve())


def test_python_files_below_the_current_directory() -> None:
    files = wanted()
    assert files.places == (here("."),)
    assert files.holds(here("shop/cart.py"))
    for path in ("shop/cart.html", "shop/.#cart.py", "shop/cart.pyc", "shop/~cart.py"):
        assert not files.holds(here(path)), path


def test_patterns_and_directories_as_uvicorn_takes_them() -> None:
    files = wanted(
        reload_dirs=("shop",),
        reload_includes=("*.html", ".*"),
        reload_excludes=("node_modules", "test_*"),
    )
    assert files.places == (here("shop"),)
    for path in ("shop/cart.py", "shop/cart.html", "shop/.env"):
        assert files.holds(here(path)), path
    for path in ("node_modules/a.py", "shop/test_cart.py"):
        assert not files.holds(here(path)), path


def test_a_file_that_is_named_is_watched_whatever_it_is_called() -> None:
    Path("limits.yaml").touch()
    files = wanted(reload_extra_files=("limits.yaml",))
    assert files.places == (here("."), here("limits.yaml"))
    assert files.holds(here("limits.yaml"))
