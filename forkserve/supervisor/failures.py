"""Why an app did not start. Workers tell it, so nothing of the brain is imported here."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BootFailure:
    """Why a worker could not start.

    ``headline`` is one sentence; ``where`` the user's own ``file:line`` or empty;
    ``details`` the last lines of the traceback, or of the stack, or empty.
    """

    headline: str
    where: str = ""
    details: str = ""

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        details = "\n" + textwrap.indent(self.details, "    ") if self.details else ""
        return f"{self.headline}{where}{details}"
