"""`python -m daps_kit` is `daps-kit`."""

from daps_kit.command.start import main

main()
