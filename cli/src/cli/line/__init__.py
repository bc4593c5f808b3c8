"""The whole line on one machine: engines, services, carrier, and how to find them again."""

from cli.line.line import Line
from cli.line.members import MEMBERS, Member
from cli.line.state import LineState

__all__ = ["MEMBERS", "Line", "LineState", "Member"]
