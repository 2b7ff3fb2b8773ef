"""The command line: the group `daps-kit`, whose commands are files of this folder, imported when they are wanted.

So no command waits for what another needs, and none but those that compute imports torch.
"""

from __future__ import annotations

import errno
import os
from importlib import import_module
from typing import Any

import click

import daps_kit
from daps_kit.errors import RecipeError, UserError
from daps_kit.memory import out_of_memory

from .interrupt import interruptible
from .terminal import say

__all__ = ["main"]

COMMANDS = (
    "calibrate",
    "check",
    "check-prior",
    "checkpoints",
    "compare",
    "coverage",
    "list",
    "merge",
    "new",
    "plugins",
    "recipes",
    "report",
    "restore",
    "run",
    "runs",
    "schema",
    "show",
    "table",
    "train",
)


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EBADF, errno.EIO)
"""What writing where a command prints can fail with; click ends quietly where nobody reads on (EPIPE)."""


class _Group(click.Group):
    """Finds a command in the file of its name; leaves with 2 and one line where a command raises `UserError`, or where
    what it prints cannot be written.

    Other exceptions are bugs and keep their traceback.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f".{cmd_name.replace('-', '_')}", __package__).command
        return found

    def invoke(self, ctx: click.Context) -> Any:
        with interruptible() as pressed:
            try:
                return self._invoke(ctx)
            except KeyboardInterrupt as interrupt:
                say(str(interrupt) or "stopped", err=True)
            except Exception:
                if not pressed:
                    raise
                say("stopped", err=True)  # what was at work made something else of it
            raise click.exceptions.Exit(130)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            say(str(error) if isinstance(error, RecipeError) else f"error: {error}", err=True)
            raise click.exceptions.Exit(2) from None
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            say("error: there is not enough memory for this; try smaller images, or fewer at once", err=True)
            raise click.exceptions.Exit(2) from None
        except OSError as error:
            if error.filename is not None or error.errno not in UNWRITABLE:
                raise
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), 1
            )  # or Python would try again, and tell of it, as it ends
            say(f"error: cannot write what is printed: {error.strerror}", err=True)
            raise click.exceptions.Exit(2) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(daps_kit.__version__, prog_name="daps-kit")
@click.option("--no-plugins", is_flag=True, help="Load no plugin but those that ship with daps-kit.")
def main(no_plugins: bool) -> None:
    """Posterior sampling for imaging inverse problems with diffusion priors.

    \b
    daps-kit restore photo.jpg            a photograph without its noise
    daps-kit run quickstart               the first pictures
    daps-kit recipes copy quickstart my.yaml
    daps-kit run my.yaml runs=4           a recipe of your own
    daps-kit list                         what recipes can be made of
    """
    if no_plugins:
        os.environ["DAPS_KIT_DISABLE"] = "*"
    from daps_kit.paths import working_folder  # with much that `--help` does not need

    working_folder()
