"""The dashboard: one file, in which everything is that it needs."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

HTML = files("forkserve.monitor").joinpath("dashboard.html").read_text("utf-8")


def _hash_of(tag: str) -> str:
    """What is between ``<tag>`` and ``</tag>``, as a Content-Security-Policy names it."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>", HTML, re.S)
    assert found
    digest = hashlib.sha256(found[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src {_hash_of('script')}",
        f"style-src {_hash_of('style')}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Only what stands in the page is executed, and it connects only to where it is from. So the
text of a request cannot become a script, even if the page were to make a mistake."""
