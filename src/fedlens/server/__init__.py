"""One server step: many uploads become one.

Knows: how uploads are weighted and reduced.
Does not know: where uploads came from, or what they mean to a method.
Offers: Server (settings), Sum.
"""

from fedlens.server.reduce import Sum
from fedlens.server.settings import Server

__all__ = ["Server", "Sum"]
