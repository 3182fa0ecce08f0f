"""uvicorn's names which are forkserve's business."""

from __future__ import annotations

import pytest
from uvicorn.main import main

from forkserve.config.outcome import NOTHING, Note, Outcome, Refuse, Use
from forkserve.config.reading import known_options
from forkserve.config.uvicorn_names import ADDRESS, FLAGS, NAMES, bind, translate


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({}, NOTHING),
        ({"host": None, "port": None, "uds": None}, NOTHING),
        ({"host": "0.0.0.0"}, Use({"bind": ["0.0.0.0:8000"]})),
        ({"port": 80}, Use({"bind": ["127.0.0.1:80"]})),
        ({"host": "::", "port": "80"}, Use({"bind": ["[::]:80"]})),
        ({"host": "[::1]"}, Use({"bind": ["[::1]:8000"]})),
        ({"host": "", "port": 80}, Use({"bind": [":80"]})),
        ({"uds": "/run/a.sock"}, Use({"bind": ["unix:/run/a.sock"]})),
        ({"fd": 3}, Use({"bind": ["fd://3"]})),
        (
            {"port": 80, "uds": "/run/a.sock"},
            Refuse("port and uds are two addresses: give --bind for each, or leave one out."),
        ),
    ],
)
def test_where_to_listen(given: dict[str, object], outcome: Outcome) -> None:
    assert bind(given) == outcome


def test_renamed_and_not_needed() -> None:
    assert translate("timeout_keep_alive", 5) == Use({"keep_alive": 5})
    assert translate("limit_max_requests", None) == NOTHING
    assert translate("h11_max_incomplete_event_size", 16384) == Use({"max_header_size": 16384})
    assert translate("lifespan", "off") == Use({"lifespan": "off"})
    assert translate("port", 80) == Use({"bind": ["127.0.0.1:80"]})
    assert translate("timeout_worker_healthcheck", 5) == Note(
        "timeout_worker_healthcheck has no effect: a worker says by itself that its event loop "
        "turns; --timeout says how long it may not."
    )


def test_each_flag_of_uvicorns_command_is_mapped_or_passed_on() -> None:
    for param in main.params:
        if param.param_type_name != "option" or param.name in ("version", "app_dir"):
            continue
        if param.name in NAMES or param.name in ADDRESS:
            flag = FLAGS[param.opts[0]]
            takes_value = not getattr(param, "is_flag", False)
            assert (flag.setting, flag.takes_value) == (param.name, takes_value)
        else:
            assert param.name in known_options()
    named = {flag.setting for flag in FLAGS.values()}
    assert named == {*NAMES, *ADDRESS} - {"callback_notify", "timeout_notify"}
    assert named <= {param.name for param in main.params}
