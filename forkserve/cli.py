"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from forkserve import __version__
from forkserve.config.settings import Settings, option_fields
from forkserve.master.inheritance import Inheritance
from forkserve.master.origin import Origin


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


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command(context_settings=_CONTEXT)
@click.argument("app", callback=_check_app)
@_with_settings
@click.option(
    "--check-config",
    is_flag=True,
    help="Import the app, report like `forkserve check`, and do not serve.",
)
@click.version_option(__version__, prog_name="forkserve")
@click.pass_obj
def serve(
    beginning: tuple[Origin, Inheritance | None] | None, /, check_config: bool, **values: Any
) -> None:
    """Serve the ASGI app APP (module:attribute) from several worker processes.

    `forkserve check APP` says whether an app can be served and shared, and what it takes.

    \b
    Signals to the master:
      TERM  stop gracefully          HUP   load the code anew, gracefully
      INT   stop; twice: at once     TTIN  one worker more
      QUIT  stop at once             TTOU  one worker fewer
      USR2  replace the master itself, gracefully: by what is installed now
    """
    settings = Settings(**values)
    if check_config:
        from forkserve import check as checking

        code = checking.check(settings, lifespan=False)
        # An app that cannot be shared is served all the same.
        sys.exit(checking.FIT if code == checking.UNFIT else code)
    # Only here: --help and a wrong option need nothing of it.
    from forkserve.master.main import run

    sys.exit(run(settings, *(beginning or ())))


@click.command(context_settings=_CONTEXT)
@click.argument("app", callback=_check_app)
@click.option("--lifespan", is_flag=True, help="Run the app's lifespan startup and shutdown too.")
@_with_settings
def check(lifespan: bool, **values: Any) -> None:
    """Import APP as a template would, and report: errors, time, memory, what cannot be shared.

    \b
    Exit code:
      0  it can be served, and its workers can be forked from a template
      1  it can be served, but each worker has to import it by itself
      2  the settings contradict each other
      3  it cannot be imported or started
    """
    from forkserve import check as checking

    sys.exit(checking.check(Settings(**values), lifespan))


def main() -> None:
    """The command ``forkserve``."""
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2:], prog_name="forkserve check")
    else:
        # Before anything else can change the environment.
        inheritance = Inheritance.take(os.environ)
        serve(prog_name="forkserve", obj=(Origin.of_this_process(), inheritance))
