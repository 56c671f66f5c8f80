"""The page's picture."""

from pathlib import Path

from ops.simulate.picture import plotting
from ops.simulate.scale import estimate
from ops.simulate.scale.page import Figures

_JOBS, _OWN, _WORDS = "#2f6f9f", "#6b7280", "#d9822b"
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def draw(figures: Figures, path: Path) -> None:
    """Write it: what servers take of Redis, and waiting in the overload by the number of servers."""
    pyplot = plotting()
    share = estimate.share(figures.costs, figures.idle)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5))
    places = range(len(_SIZES))
    below = [0.0] * len(_SIZES)
    for label, percent, colour in (("jobs", share.jobs, _JOBS), ("beats and reports", share.own, _OWN),
                                   ("words, if all is streamed", share.words, _WORDS)):
        left.bar(places, [size * percent for size in _SIZES], bottom=below, label=label, color=colour)
        below = [low + size * percent for low, size in zip(below, _SIZES, strict=True)]
    left.axhline(estimate.FULL_PERCENT, color="#b3362b", linestyle="--", linewidth=1,
                 label=f"full: {estimate.FULL_PERCENT:g} %")
    left.set_xticks(places, [str(size) for size in _SIZES])
    left.set_xlabel("busy servers")
    left.set_ylabel("of one CPU of the Redis primary, %")
    left.legend(loc="upper left")
    for grown, label, colour in ((False, "caps of the file", _WORDS), (True, "caps grown with the servers", _JOBS)):
        chosen = [each for each in figures.runs if each.grown_caps is grown]
        for each, style in zip(chosen, ("-", "--", ":"), strict=False):
            right.plot([second.oldest_s for second in each.run.seconds], linestyle=style, color=colour, linewidth=1.2,
                       label=f"{each.servers} servers, {label}")
    right.set_xlabel("seconds; overload from 60 to 180")
    right.set_ylabel("age of the oldest waiting job, s")
    right.set_ylim(bottom=0)
    right.legend(loc="upper left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
