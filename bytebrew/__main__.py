"""Entry point of `python -m bytebrew`."""

from bytebrew.cli.main import main

if __name__ == "__main__":
    main()
