"""`python -m daps_kit` is `daps-kit`."""

from daps_kit.command.main import main

main(prog_name="daps-kit")
