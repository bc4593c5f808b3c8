"""The way in, also as `python -m cli`: it may be left before the commands are there, which takes a second."""

import logging
import sys


def run() -> None:
    # The client tells each of its tries. What comes of them is told by the command, in its one sentence.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        from cli.main import app
    except KeyboardInterrupt:
        sys.exit(130)
    app()


if __name__ == "__main__":
    run()
