"""The job's own rounds: played as its author's loop would play them, and counted.

Knows: what a client sent beside what it received, what an aggregate is made of, what became of buffers.
Does not know: what any of it says of a cause.
Offers: examine_rounds, Playing, Played.
"""

from fedlens.diagnosis.probes.rounds.playing import Played, Playing, examine_rounds

__all__ = ["Played", "Playing", "examine_rounds"]
