"""`python -m agent99` is `agent99`."""

from agent99.cli import main

if __name__ == "__main__":
    main()
