"""`python -m telemetry`: the command line."""

from telemetry.cli import main

if __name__ == "__main__":
    main()
