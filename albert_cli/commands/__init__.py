"""One file, one subcommand: a module here is a command by existing (see albert_cli.main)."""
