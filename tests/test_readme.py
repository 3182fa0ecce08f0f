"""What the README shows of the code is what the code says."""

from __future__ import annotations

from forkserve.config.reading import known_options
from tests import readme, readme_diagram, readme_gunicorn, readme_settings


def test_the_phase_diagram_is_current() -> None:
    """If this fails: ``python -m tests.readme_diagram``."""
    assert readme.shown("phases") == readme_diagram.phases_mermaid()


def test_the_tables_of_settings_are_current() -> None:
    """If this fails: ``python -m tests.readme_settings``."""
    assert readme.shown("settings") == readme_settings.tables()


def test_the_options_that_are_said_to_be_uvicorns_exist() -> None:
    """If this fails: ``python -m tests.readme_settings``. A newer uvicorn may have more of them,
    other defaults and other words."""
    known = {flag for o in known_options().values() for flag in (*o.flags, *o.off)}
    shown = readme_settings.flags_in(readme.shown("uvicorn"))
    assert "--ssl-certfile" in shown
    assert shown <= known


def test_the_tables_of_gunicorns_settings_are_current() -> None:
    """If this fails: ``python -m tests.readme_gunicorn``."""
    assert readme.shown("gunicorn") == readme_gunicorn.tables()
