"""Where the socket is, and which directories are believed."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from forkserve.control import places


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's session; what is a directory of our own otherwise is one in here."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(places, "ROOT", -1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"forkserve-{os.geteuid()}"


def test_off_and_a_path_of_ones_own(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runtime)
    assert places.path_for("off", "shop.pid") is None
    assert places.path_for("my.sock", "shop.pid") == str(runtime / "my.sock")
    assert os.listdir(runtime) == []


def test_in_the_directory_of_the_session_whatever_the_umask(runtime: Path) -> None:
    umask = os.umask(0o777)
    try:
        path = places.path_for(None, "/run/shop.pid")
    finally:
        assert os.umask(umask) == 0o777
    assert path == str(runtime / "forkserve" / f"{os.getpid()}.sock")
    assert stat.S_IMODE(os.stat(runtime / "forkserve").st_mode) == 0o700


def test_beside_the_pidfile(own: Path) -> None:
    assert places.path_for(None, "/run/shop.pid") == "/run/shop.control.sock"
    assert places.path_for(None, "/run/shop") == "/run/shop.control.sock"


def test_a_directory_for_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    assert places.own_directory() == "/run/forkserve"


def test_a_directory_of_ones_own(own: Path) -> None:
    path = places.path_for(None, None)
    assert path == str(own / f"{os.getpid()}.sock")
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert places.path_for(None, None) == path  # it is there already


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o701])
def test_a_directory_that_is_open_to_others_is_not_believed(own: Path, mode: int) -> None:
    own.mkdir()
    own.chmod(mode)
    with pytest.raises(places.PlaceError, match=f"its mode is {mode:o}"):
        places.path_for(None, None)


def test_nor_is_somebody_elses(own: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    own.mkdir(mode=0o700)
    os.chown(own, 1, 1)
    with pytest.raises(places.PlaceError, match="belongs to the user with uid 1"):
        places.path_for(None, None)


def test_nor_is_a_link_to_one_of_ours(own: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    own.symlink_to(tmp_path / "real")
    with pytest.raises(places.PlaceError, match="no directory, or a link"):
        places.path_for(None, None)


@pytest.mark.parametrize("wrong", ["relative", "open", "missing", "file"])
def test_a_session_that_is_none_is_left_alone(
    wrong: str, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wrong == "relative":
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_RUNTIME_DIR", "run")
    elif wrong == "open":
        runtime.chmod(0o777)
    else:
        runtime.rmdir()
        if wrong == "file":
            runtime.touch()
    assert places.path_for(None, "/run/shop.pid") == "/run/shop.control.sock"
    assert not (runtime / "forkserve").exists()


def test_what_is_known_is_in_the_directories_by_pid(runtime: Path) -> None:
    (runtime / "forkserve").mkdir(mode=0o700)
    for name in ("10.sock", "9.sock", "9.lock"):
        (runtime / "forkserve" / name).touch()
    paths = [str(runtime / "forkserve" / name) for name in ("9.sock", "10.sock")]
    assert places.known()[:2] == paths
    (runtime / "forkserve").chmod(0o755)
    assert not set(paths) & set(places.known())
