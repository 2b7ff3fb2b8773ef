"""`python -m daps_kit` is `daps-kit`."""

from daps_kit.start import main

main()
