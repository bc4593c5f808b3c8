"""The way in, also as `python -m cli`: it may be left before the commands are there, which takes a second."""

import sys


def run() -> None:
    try:
        from cli.main import app
    except KeyboardInterrupt:
        sys.exit(130)
    app()


if __name__ == "__main__":
    run()
