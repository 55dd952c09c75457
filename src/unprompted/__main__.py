"""`python -m unprompted`, as launchers of several processes want it."""

from unprompted.apps.cli.commands import main

if __name__ == "__main__":
    main()
