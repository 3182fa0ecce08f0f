"""Small values as the user writes them: sizes, environment variables, apps, functions, paths."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PLACES = ("slot", "worker_id", "generation")

AUTO = 0
"""A number of workers that means: one for each CPU that may be used."""

MOST_WORKERS = 512

HIDDEN = "********"
"""Stands for what is not shown."""


def parse_workers(text: str) -> int:
    """How many workers, or :data:`AUTO`.

    Raises ValueError with a sentence for the user.
    """
    text = text.strip()
    if text.lower() == "auto":
        return AUTO
    # The length first: int() refuses thousands of digits with a sentence of its own.
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_WORKERS:
        return int(text)
    raise ValueError(f'"{text}" is not a number of workers; write 1 to {MOST_WORKERS}, or "auto".')


def parse_size(text: str) -> int:
    """Bytes: a number, perhaps with K, M, G or T (powers of 1024) behind it.

    Raises ValueError with a sentence for the user.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if not found:
        raise ValueError(f'"{text}" is not a size; write for example "512M" or "2G".')
    return int(float(found[1]) * _UNITS[found[2].upper()])


def parse_variable(text: str, example: str = "MODEL=small") -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``. Any name will do that an environment can have, but for
    blanks in it."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"\S+", name):
        # No value is shown: it may be a secret, and so may be what has no name.
        shown = f'"{name}=..."' if equals else 'what has no "=" in it'
        raise ValueError(f'{shown} is not NAME=VALUE; write for example "{example}".')
    return name, value


def show_variable(variable: tuple[str, str]) -> str:
    """Without its value, for the same reason."""
    return f"{variable[0]}={HIDDEN}"


def parse_worker_env(text: str) -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``, where VALUE may hold ``{slot}`` and the like."""
    name, value = parse_variable(text, "GPU={slot}")
    try:
        filled_in(value, dict.fromkeys(_PLACES, 0))
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as exc:
        places = ", ".join(f"{{{place}}}" for place in _PLACES)
        raise ValueError(
            f'"{text}": only {places} can be filled in; write {{{{ and }}}} for braces.'
        ) from exc
    return name, value


def filled_in(value: str, numbers: dict[str, int]) -> str:
    """``value`` with its places filled in. Raises KeyError for one that is unknown."""
    return value.format_map(numbers)


def parse_app(text: str) -> str:
    """``module:attribute``, checked for its form only."""
    module, _, attribute = text.partition(":")
    if module.endswith(".py") or "/" in module:
        name = module.removesuffix(".py").strip("./").replace("/", ".")
        hint = f'write the module\'s name, "{name}:{attribute or "app"}"'
        raise ValueError(f'"{text}" is a path; {hint}.')
    if not module or not attribute:
        name = module or "demo_app"
        raise ValueError(f'"{text}" is not "module:attribute"; write for example "{name}:app".')
    return text


def parse_function(text: str) -> str:
    """``module:function``, checked for its form only."""
    module, _, function = text.partition(":")
    if not module or not function or "/" in module:
        raise ValueError(
            f'"{text}" is not "module:function"; write for example "demo_app:load_model".'
        )
    return text


def parse_path(text: str) -> str:
    """The path of a request, such as ``/health``."""
    if not text.startswith("/") or any(c.isspace() for c in text):
        raise ValueError(f'"{text}" is not a path; write for example "/health".')
    return text


def parse_umask(text: str) -> int:
    """A file mode creation mask, written in octal as chmod(1) and umask(2) have it."""
    if not re.fullmatch(r"(0o|0)?[0-7]{1,3}", text):
        raise ValueError(f'"{text}" is not an octal mask; write for example "027".')
    return int(text, 8)


def parse_name(text: str) -> str:
    """A name that others are to read: one line, nothing that a terminal would act on."""
    if not text or not text.isprintable():
        raise ValueError(f'{text!r} is not a name; write for example "shop".')
    return text


class Mode(int):
    """The permissions of a file. ``str()`` gives them as chmod(1) takes them."""

    def __str__(self) -> str:
        return f"{self:o}"


def parse_mode(text: str) -> Mode:
    """Read octal digits. Raises ValueError with a sentence for the user."""
    if not re.fullmatch(r"[0-7]{3}|0[0-7]{3}", text.strip()):
        raise ValueError(f'"{text}" are no permissions in octal; write for example "660".')
    return Mode(text, 8)
