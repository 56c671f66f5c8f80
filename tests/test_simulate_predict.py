"""Predictions of a run, in figures that can be measured on the real system as well."""

from ops.simulate import Arrival, World, peak_share, predict
from tests.simulated import EVEN, a_topology, send_all, stay_home

RICH = a_topology(cloud_price_per_1000_tokens=1.0, cloud_money_per_hour=1e6, cloud_jobs_per_minute=100_000,
                  target_wait_s=2.0)


def test_the_peak_share_is_that_of_the_ten_seconds_with_the_most_in_the_cloud() -> None:
    begun = [(float(second), False) for second in range(60) for _ in range(3)]
    begun += [(second + 0.5, True) for second in range(20, 30) for _ in range(2)]

    assert peak_share(begun) == 20 / 50


def test_the_windows_of_the_peak_share_begin_at_every_second() -> None:
    begun = [(second + 0.1, second >= 5) for second in range(15) for _ in range(3)]

    assert peak_share(begun) == 1.0


def test_a_window_in_which_too_few_began_does_not_count() -> None:
    assert peak_share([(1.0, True)] * 19) == 0.0
    assert peak_share([(1.0, True)] * 20) == 1.0
    assert peak_share([]) == 0.0


def test_a_load_that_home_can_do_is_predicted_to_cost_nothing() -> None:
    found = predict([(n / 4, 1.0, 1000.0) for n in range(400)], RICH, RICH.rules, 2)

    assert (found.peak_share, found.cost, found.jobs_sent, found.transitions) == (0.0, 0.0, 0, 0)
    assert found.max_wait_s == 0.0


def test_an_overload_is_predicted_to_send_what_home_cannot_do() -> None:
    arrivals = [(n / 11, 1.0, 1000.0) for n in range(11 * 120)]  # 8 slots do 8 a second of 11
    found = predict(arrivals, RICH, RICH.rules, 2, world=EVEN)

    assert 0.6 * 3 * 120 < found.jobs_in_cloud < 3 * 120
    assert found.cost == found.jobs_in_cloud  # a thousand tokens each, at 1.0
    assert 0.25 < found.peak_share < 0.7
    assert found.run.accepted == found.run.succeeded == len(arrivals)


def test_a_prediction_is_the_same_each_time() -> None:
    arrivals = [Arrival(n / 11, 0.5 + n % 4 / 2, 800.0, 1600.0) for n in range(700)]

    first, again = (predict(arrivals, RICH, RICH.rules, 1, world=World(seed=7)) for _ in range(2))
    assert (first.peak_share, first.cost, first.max_wait_s) == (again.peak_share, again.cost, again.max_wait_s)


def test_more_cloud_workers_are_predicted_to_take_more() -> None:
    arrivals = [(n / 30, 1.0, 1000.0) for n in range(1800)]

    few, many = (predict(arrivals, RICH, RICH.rules, workers) for workers in (1, 4))
    assert few.peak_share < many.peak_share
    assert few.max_wait_s > many.max_wait_s


def test_a_job_that_reserves_more_than_it_uses_costs_what_it_uses() -> None:
    found = predict([Arrival(0.0, 1.0, 500.0, 4000.0)] * 20, RICH, RICH.rules, 1, policy=send_all, world=EVEN)

    assert found.cost == 0.5 * found.jobs_in_cloud > 0


def test_where_nothing_is_sent_the_wait_is_that_of_home() -> None:
    found = predict([(0.0, 1.0, 1.0)] * 80, RICH, RICH.rules, 1, policy=stay_home)

    assert found.max_wait_s == 9.0
