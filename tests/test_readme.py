"""What the README shows of the code is what the code says."""

from __future__ import annotations

from tests.readme_diagram import README, block_of, phases_mermaid


def test_the_phase_diagram_is_current() -> None:
    """If this fails: ``python -m tests.readme_diagram``."""
    assert block_of(README.read_text()) == phases_mermaid()
