"""Families of metrics, made from values as we have them."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


def counter(name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], labels: tuple[str, ...]) -> Metric:
    """Return a counter. Each value comes with those of its labels."""
    family = CounterMetricFamily(name, text, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def gauge(name: str, text: str, values: Iterable[tuple[tuple[str, ...], float | None]], labels: tuple[str, ...]) -> Metric:
    """Return a gauge. Each value comes with those of its labels; one that is not known is left out."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for labelled, value in values:
        if value is not None:
            family.add_metric(labelled, value)
    return family
