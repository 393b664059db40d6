"""`python -m ensemble_eval`: the command line, for launchers that start a module."""

from ensemble_eval.cli import main

main()
