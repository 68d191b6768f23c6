"""``python -m martlet``."""

from martlet.cli import main

if __name__ == "__main__":
    main()
