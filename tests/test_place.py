"""Where the children of the master begin, and with whose rights: what is refused, and how."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkserve.config.contradictions import contradictions
from forkserve.config.settings import Settings
from forkserve.place import Place, PlaceError, settle
from forkserve.rights import Rights, RightsError, rights_of

NOBODY = pwd.getpwnam("nobody")

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def wanted(**settings: Any) -> Settings:
    return Settings("app:app", **settings)


def in_a_child(do: Callable[[], object]) -> str:
    """What ``do`` returns, or the sentence of the error that it raises."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                said = str(do())
            except (PlaceError, RightsError) as exc:
                said = str(exc)
            os.write(writer, said.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def as_nobody(do: Callable[[], object]) -> str:
    def fall_and_do() -> object:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
        return do()

    return in_a_child(fall_and_do)


def test_without_a_user_there_is_nothing_to_drop() -> None:
    assert rights_of(wanted()) is None


def test_a_user_brings_its_group_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ("nobody", str(NOBODY.pw_uid)):
        rights = rights_of(wanted(user=user))
        assert rights
        assert (rights.user, rights.uid, rights.gid) == ("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
        assert rights.groups == (NOBODY.pw_gid,)
    daemon = grp.getgrnam("daemon").gr_gid
    for group in ("daemon", str(daemon)):
        rights = rights_of(wanted(user="nobody", group=group))
        assert rights
        assert (rights.gid, rights.groups) == (daemon, (daemon,))
    nameless = rights_of(wanted(user="54321", group="54322"))
    assert nameless
    assert (nameless.user, nameless.uid, nameless.groups) == ("54321", 54321, (54322,))


def test_what_names_the_user_is_changed_unless_somebody_has_chosen_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starter = pwd.getpwuid(os.geteuid())
    monkeypatch.setenv("HOME", starter.pw_dir)
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.delenv("LOGNAME", raising=False)
    rights = rights_of(wanted(user="nobody"))
    assert rights
    assert rights.environment == (("HOME", NOBODY.pw_dir), ("LOGNAME", "nobody"))
    nameless = rights_of(wanted(user="54321", group="54322"))
    assert nameless
    assert nameless.environment == (("HOME", "/"), ("LOGNAME", "54321"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"user": "no-such"}, '--user: there is no user "no-such" on this machine'),
        ({"user": "a\0b"}, "--user: there is no user"),
        ({"user": "nobody", "group": "no-such"}, '--group: there is no group "no-such" on'),
        ({"user": "54321"}, "--user 54321 has no name here, and so no group; give --group too"),
        ({"user": "4294967295", "group": "1"}, "--user 4294967295 is out of range"),
        ({"group": "9" * 5000}, "--group 99999999999999999999 is out of range"),
    ],
)
def test_who_cannot_be_found_is_one_sentence(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(RightsError) as told:
        rights_of(wanted(**settings))
    assert str(told.value).startswith(sentence)


def test_initgroups_needs_a_user() -> None:
    assert "--initgroups" in contradictions(wanted(initgroups=True))[0]
    assert not contradictions(wanted(initgroups=True, user="nobody"))


def test_who_is_not_root_can_only_be_who_he_is() -> None:
    ours = Rights("nobody", NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid,))
    assert as_nobody(ours.drop_others) == "None"
    said = as_nobody(lambda: settle(wanted(user="root", app_dir="/")))
    assert said.startswith("cannot become user root with group 0 (Operation not permitted); start")
    said = as_nobody(lambda: settle(wanted(group="root", app_dir="/")))
    assert said.startswith("cannot become user nobody with group 0 (Operation not permitted)")


@needs_root
def test_rights_that_can_be_taken_back_are_not_dropped() -> None:
    """With SECBIT_NO_SETUID_FIXUP a change of users keeps the capabilities (capabilities(7))."""

    def drop_in_vain() -> None:
        assert ctypes.CDLL(None).prctl(28, 1 << 2, 0, 0, 0) == 0
        Rights("nobody", NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid,)).drop_others()

    assert in_a_child(drop_in_vain).startswith("user nobody could become root again")


def test_chdir_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there" / "src").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlaceError, match=r"--app-dir src: there is no such directory$"):
        settle(wanted(app_dir="src"))
    with pytest.raises(PlaceError, match=r"src: there is no such directory in .* \(--chdir\)"):
        settle(wanted(app_dir="src", chdir="/"))
    monkeypatch.chdir(tmp_path)
    place = settle(wanted(app_dir="src", chdir="there"))
    assert place == Place(str(tmp_path / "there"))
    assert os.getcwd() == str(tmp_path / "there")
    with pytest.raises(PlaceError, match=f"--chdir {tmp_path}/there/no cannot be entered: No such"):
        settle(wanted(chdir="no"))


@needs_root
def test_a_folder_is_entered_with_the_rights_that_are_left(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    rights = Rights("nobody", NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid,))
    said = in_a_child(Place(str(tmp_path), rights).take)
    assert said == f"--chdir {tmp_path} cannot be entered as user nobody: Permission denied"


def test_what_is_said_of_the_rights() -> None:
    rights = Rights("nobody", 65534, 1, (1,))
    assert Place(rights=rights).remark()[1] == "the app runs as user nobody (uid 65534, gid 1)"
    said = as_nobody(Place().remark)
    assert "the user who has started forkserve" in said
    if os.getuid() == 0:
        assert in_a_child(Place().remark).endswith(
            "'the app runs as root; --user gives it fewer rights')"
        )
