"""The breaker keeps calls from a target that does not work, and finds out with one call at a time that it works again."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.breaker import Breaker, Pass, State


def a_breaker(threshold: int = 3) -> Breaker:
    return Breaker(threshold=threshold, cooldown_s=10.0)


def admitted(breaker: Breaker, now_s: float) -> Pass:
    passed = breaker.admit(now_s)
    assert passed is not None, f"no call at {now_s}, though {breaker.state.name}"
    return passed


def opened(threshold: int = 3) -> Breaker:
    """Return a breaker that opened at 0 s."""
    breaker = a_breaker(threshold)
    for _ in range(threshold):
        breaker.failed(admitted(breaker, 0.0), 0.0)
    assert breaker.state is State.OPEN
    return breaker


def test_faults_in_a_row_open_it_and_no_call_goes_through_until_it_has_cooled_down() -> None:
    breaker = opened()

    assert (breaker.admit(0.0), breaker.admit(9.9)) == (None, None)
    assert (breaker.wait_s(0.0), breaker.wait_s(7.5), breaker.opened) == (10.0, 2.5, 1)
    assert breaker.admit(10.0) is not None


def test_an_answer_between_them_begins_the_count_of_faults_anew() -> None:
    breaker = a_breaker()
    for _ in range(5):
        breaker.failed(admitted(breaker, 0.0), 0.0)
        breaker.failed(admitted(breaker, 0.0), 0.0)
        breaker.answered(admitted(breaker, 0.0))

    assert breaker.state is State.CLOSED


def test_calls_that_were_given_up_neither_open_nor_mend_it() -> None:
    breaker = a_breaker()
    for _ in range(2):
        breaker.failed(admitted(breaker, 0.0), 0.0)
        breaker.given_up(admitted(breaker, 0.0))
    assert breaker.state is State.CLOSED

    breaker.failed(admitted(breaker, 0.0), 0.0)
    assert breaker.state is State.OPEN


def test_one_trial_goes_through_at_a_time_and_its_answer_closes_the_breaker() -> None:
    breaker = opened()
    trial = admitted(breaker, 10.0)

    assert (breaker.state, breaker.wait_s(10.0)) == (State.HALF_OPEN, 0.0)
    assert (breaker.admit(10.0), breaker.admit(1e9)) == (None, None)
    breaker.answered(trial)
    assert breaker.state is State.CLOSED
    assert admitted(breaker, 10.0)
    assert admitted(breaker, 10.0)


def test_a_trial_that_fails_opens_it_for_another_while() -> None:
    breaker = opened()
    breaker.failed(admitted(breaker, 12.0), 15.0)

    assert (breaker.state, breaker.opened, breaker.admit(24.9)) == (State.OPEN, 2, None)
    assert breaker.admit(25.0) is not None


def test_a_trial_that_was_given_up_leaves_its_place_to_the_next_call() -> None:
    breaker = opened()
    breaker.given_up(admitted(breaker, 10.0))

    assert breaker.state is State.HALF_OPEN
    breaker.answered(admitted(breaker, 10.0))
    assert breaker.state is State.CLOSED


def test_a_trials_first_sign_of_life_closes_it_and_what_breaks_later_is_a_fault_like_any() -> None:
    breaker = opened()
    trial = admitted(breaker, 10.0)
    breaker.alive(trial)
    assert breaker.state is State.CLOSED

    breaker.failed(trial, 60.0)
    breaker.failed(admitted(breaker, 60.0), 60.0)
    assert breaker.state is State.CLOSED
    breaker.failed(admitted(breaker, 60.0), 60.0)
    assert breaker.state is State.OPEN


def test_a_sign_of_life_is_no_answer_so_streams_that_break_one_after_the_other_open_it() -> None:
    breaker = a_breaker()
    for _ in range(3):
        passed = admitted(breaker, 0.0)
        breaker.alive(passed)
        breaker.failed(passed, 0.0)

    assert breaker.state is State.OPEN


def test_what_calls_from_before_say_is_old_news() -> None:
    breaker = a_breaker()
    early = [admitted(breaker, 0.0) for _ in range(20)]
    for passed in early[:10]:
        breaker.failed(passed, 1.0)
    assert (breaker.state, breaker.opened) == (State.OPEN, 1)

    breaker.answered(early[10])
    breaker.alive(early[11])
    breaker.failed(early[12], 9.0)
    assert (breaker.state, breaker.wait_s(9.0)) == (State.OPEN, 2.0)
    trial = admitted(breaker, 11.0)
    breaker.failed(early[13], 11.0)
    breaker.answered(early[14])
    breaker.given_up(early[15])
    assert (breaker.state, breaker.admit(11.0)) == (State.HALF_OPEN, None)
    breaker.answered(trial)
    assert breaker.state is State.CLOSED


class BreakerMachine(RuleBasedStateMachine):
    """Any calls with any ends, at any times."""

    @initialize(threshold=st.integers(1, 4))
    def begin(self, threshold: int) -> None:
        self.breaker, self.now_s, self.calls, self.threshold = a_breaker(threshold), 0.0, list[Pass](), threshold

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def a_call_is_asked_for(self) -> None:
        was, waited = self.breaker.state, self.breaker.wait_s(self.now_s)
        passed = self.breaker.admit(self.now_s)
        assert passed is not None or was is not State.CLOSED
        assert passed is None or waited == 0
        assert was is not State.OPEN or (passed is not None) == (waited == 0)
        if passed is not None:
            self.calls.append(passed)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), end=st.sampled_from(["answered", "failed", "given_up"]))
    def a_call_ends(self, data: st.DataObject, end: str) -> None:
        passed = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        if end == "failed":
            self.breaker.failed(passed, self.now_s)
        else:
            getattr(self.breaker, end)(passed)

    @invariant()
    def it_always_works_again_in_the_end(self) -> None:
        """Nothing that is under way can keep it from a trial for ever once it is handed back."""
        if self.breaker.state is State.HALF_OPEN and not self.calls:
            passed = self.breaker.admit(self.now_s)
            assert passed is not None
            self.breaker.given_up(passed)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(stateful_step_count=40)
