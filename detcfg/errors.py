"""The root of the errors that a user can put right."""

from __future__ import annotations


class DetcfgError(Exception):
    """Something in the input is wrong: a config, a file, the data or the command line.

    The message says where, what, and what to do. The command line shows it without a traceback;
    any other exception is a bug and keeps its traceback.
    """
