"""How a command ends: exit codes, and failures that read as one sentence."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The documented exit codes; 69 and 78 are those of sysexits.h."""

    OK = 0
    DIFFERENCE = 1
    USAGE = 2
    UNAVAILABLE = 69
    CONFIGURATION = 78


EXIT_CODES = (
    "Exit codes: 0 done, 1 a difference or a failure, 2 wrong usage (of the command, a file or an option), "
    "69 a service does not answer, 78 wrong configuration."
)


class Failure(Exception):
    """Ends the command; its text is one sentence for a person."""

    code = ExitCode.DIFFERENCE


class WrongUsage(Failure):
    code = ExitCode.USAGE


class Unavailable(Failure):
    code = ExitCode.UNAVAILABLE


class WrongConfiguration(Failure):
    code = ExitCode.CONFIGURATION
