"""Draws the README's diagram of a worker's phases from the supervisor's own table.

``python -m tests.readme_diagram`` puts it into README.md, between its markers.
"""

from __future__ import annotations

from forkserve.supervisor.phases import TRANSITIONS, Phase
from tests import readme


def phases_mermaid() -> str:
    """The diagram as a fenced block of Markdown."""
    arrows = [
        f"    {phase.value} --> {later.value}"
        for phase in Phase
        for later in Phase
        if later in TRANSITIONS[phase]
    ]
    first, *_, last = Phase
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {first.value}",
            *arrows,
            f"    {last.value} --> [*]",
            "```",
        ]
    )


if __name__ == "__main__":
    readme.show("phases", phases_mermaid())
