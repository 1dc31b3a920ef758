"""`python -P -m agent99` is `agent99`; -P keeps the current folder off the path."""

from agent99.cli import main

if __name__ == "__main__":
    main()
