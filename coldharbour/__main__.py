"""`python -m coldharbour` is the `coldharbour` command."""

from coldharbour.cli import main

main()
