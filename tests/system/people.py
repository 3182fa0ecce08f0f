"""Other users for the system tests: who they are, and a file system that they may read.

Where the tests run as root, Python and the working copy often lie below a directory that is
closed to everybody else, such as ``/root`` or one of mktemp(1). A mount namespace of its own
(mount_namespaces(7)) shows a server the same files at the same places, and the way to them
open; nobody else sees anything of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

_SHOW = """
set -e
here=$(pwd -P)
behind=$(mktemp -d)
mount -t tmpfs tmpfs "$behind"
while [ "$1" != -- ]; do
    closed=$1; shift
    mkdir "$behind/${n:=0}"
    mount --rbind "$closed" "$behind/$n"
    mount -t tmpfs -o mode=755 tmpfs "$closed"
    while [ "$1" != - ]; do
        mkdir -p "$closed/$1"
        mount --rbind "$behind/$n/$1" "$closed/$1"
        shift
    done
    shift; n=$((n + 1))
done
shift
umount --lazy "$behind"  # what is bound stays
rmdir "$behind"
cd "$here"
exec "$@"
"""


def open_to_everybody(folder: Path) -> list[str]:
    """A command under which a server finds ``folder``, Python and forkserve wherever they
    are, and other users may read them."""
    may_mount()
    project = Path(__file__).parents[2]
    wanted = {folder, project, Path(sys.prefix), Path(sys.base_prefix)}
    by_closed: dict[Path, list[str]] = {}
    for path in sorted({path.resolve() for path in wanted}):
        for parent in reversed(path.parents):
            if not parent.stat().st_mode & 0o001:
                by_closed.setdefault(parent, []).append(str(path.relative_to(parent)))
                break
    folder.chmod(0o755)
    ways = [word for closed, paths in by_closed.items() for word in (str(closed), *paths, "-")]
    return ["unshare", "--mount", "sh", "-c", _SHOW, "sh", *ways, "--"]


def may_mount() -> None:
    """Skip the test where nothing may be mounted in a namespace of one's own."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    if not _can_unshare():
        pytest.skip("needs to make a mount namespace")


@cache
def _can_unshare() -> bool:
    command = ["unshare", "--mount", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def ids_of(pid: int) -> dict[str, list[int]]:
    """``Uid``, ``Gid`` and ``Groups`` of proc_pid_status(5), and ``Umask``, which is octal."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.findall(r"^(Uid|Gid|Groups|Umask):(.*)$", status, re.M)
    return {
        name: [int(n, 8 if name == "Umask" else 10) for n in numbers.split()]
        for name, numbers in found
    }
