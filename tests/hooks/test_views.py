"""What a hook is given to see."""

from __future__ import annotations

import pytest

from forkserve.config.bind import parse_bind
from forkserve.config.settings import Settings
from forkserve.hooks.views import Server

SETTINGS = Settings("app:app", workers=3, bind=(parse_bind(":8000"),), keep_alive=7.0)


def test_the_settings_are_read_under_both_names_and_not_set() -> None:
    server = Server(SETTINGS, 1234)
    assert (server.pid, server.address) == (1234, ["0.0.0.0:8000"])
    assert (server.cfg.workers, server.cfg.bind) == (3, ["0.0.0.0:8000"])
    assert server.cfg.keepalive == server.cfg.keep_alive == 7.0
    assert (server.cfg.loglevel, server.cfg.preload_app) == ("info", True)
    with pytest.raises(AttributeError, match="cannot be set"):
        server.cfg.workers = 4
    with pytest.raises(AttributeError, match='no setting "worker_tmp_dir"'):
        _ = server.cfg.worker_tmp_dir


def test_what_there_is_not_is_named_and_one_s_own_can_be_put_there() -> None:
    server = Server(SETTINGS, 1234)
    with pytest.raises(AttributeError, match='server has no "WORKERS"'):
        _ = server.WORKERS
    assert getattr(server, "mine", None) is None
    server.mine = 5  # type: ignore[attr-defined]
    assert server.mine == 5
