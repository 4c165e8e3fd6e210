"""What `python -m bytebrew` runs."""

from bytebrew.cli.main import main

if __name__ == "__main__":
    main()
