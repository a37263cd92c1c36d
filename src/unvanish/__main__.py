"""`python -m unvanish`: the same as the command `unvanish`."""

from unvanish.cli import main

if __name__ == "__main__":
    main()
