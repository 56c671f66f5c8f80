"""Finds out what is slow when an alert, or an operator, asks (`app.investigations`)."""

from routing.investigation.investigator import Investigator

__all__ = ["Investigator"]
