"""`python -m albert_cli`, the same as the `albert` script."""

from albert_cli.main import main

main()
