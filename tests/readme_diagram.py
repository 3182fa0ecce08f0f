"""Draws the README's diagram of a worker's phases from the supervisor's own table.

``python -m tests.readme_diagram`` puts it into README.md, between its markers.
"""

from __future__ import annotations

from pathlib import Path

from forkserve.supervisor.state import TRANSITIONS, Phase

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- phases:begin -->", "<!-- phases:end -->"


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


def block_of(text: str) -> str:
    """What stands between the markers."""
    _, _, rest = text.partition(BEGIN)
    block, end, _ = rest.partition(END)
    if not end:
        raise ValueError(f"README.md lacks {BEGIN} or {END}")
    return block.strip()


def main() -> None:
    text = README.read_text()
    block_of(text)
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{phases_mermaid()}\n{END}{after}")


if __name__ == "__main__":
    main()
