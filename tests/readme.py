"""What the README shows of the code stands in it between two markers, such as
``<!-- phases:begin -->`` and ``<!-- phases:end -->``, and is put there by a program."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def shown(name: str) -> str:
    """What stands between the markers of that name."""
    return _parts(README.read_text(), name)[1].strip()


def show(name: str, block: str) -> None:
    """Put ``block`` between them."""
    before, _, after = _parts(README.read_text(), name)
    README.write_text(f"{before}\n{block}\n{after}")


def _parts(text: str, name: str) -> tuple[str, str, str]:
    """The text up to a begin marker and with it, what is between, and the rest."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found_begin, rest = text.partition(begin)
    block, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"README.md lacks {begin} or {end}")
    return before + begin, block, end + after
