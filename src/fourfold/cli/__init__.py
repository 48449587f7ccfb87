"""The ``fourfold`` command: one subcommand a file."""
