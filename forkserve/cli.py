"""The command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from forkserve import __version__
from forkserve.config.settings import Settings, option_fields


def _check_app(ctx: click.Context, param: click.Parameter, value: str) -> str:
    module, _, attribute = value.partition(":")
    if module.endswith(".py") or "/" in module:
        name = module.removesuffix(".py").strip("./").replace("/", ".")
        hint = f'write the module\'s name, "{name}:{attribute or "app"}"'
        raise click.BadParameter(f'"{value}" is a path; {hint}.')
    if not module or not attribute:
        name = module or "demo_app"
        raise click.BadParameter(
            f'"{value}" is not "module:attribute"; write for example "{name}:app".'
        )
    return value


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    for field in reversed(option_fields()):
        shown = field.default is not None and not isinstance(field.default, bool)
        option: dict[str, Any] = {"default": field.default, "show_default": shown}
        option |= field.metadata["option"]
        flags = (*field.metadata["flags"], field.name)
        command = click.option(*flags, help=field.metadata["help"], **option)(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("app", callback=_check_app)
@_with_settings
@click.version_option(__version__, prog_name="forkserve")
def main(**values: Any) -> None:
    """Serve the ASGI app APP (module:attribute) from several worker processes.

    \b
    Signals to the master:
      TERM  stop gracefully          HUP   load the code anew, gracefully
      INT   stop; twice: at once     TTIN  one worker more
      QUIT  stop at once             TTOU  one worker fewer
    """
    # Only here: --help and a wrong option need nothing of it.
    from forkserve.master.main import run

    sys.exit(run(Settings(**values)))
