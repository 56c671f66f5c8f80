"""`python -m ops.simulate scale`: what happens at 2, 8 and 64 servers, and where the one Redis primary ends.

Measures on this machine (`redis_cost`, `idle_stack`, `leader`), simulates (`overload`), and writes SCALE.md and its picture
(`page`, `picture`). Nothing on that page is written by hand but its words.
"""

from ops.simulate.scale.command import main

__all__ = ["main"]
