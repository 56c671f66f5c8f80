"""Load above what home can serve: the excess goes to the cloud, waiting comes under the target, and afterwards all is home
again; with overflow off, the same load waits longer and longer."""

import time

from app.job import State
from ops.drill.books import Books, percentile
from ops.drill.bounds import exceeded
from ops.drill.callers import Load, Steady
from ops.drill.scene import Scene
from ops.drill.story import Story
from ops.waiting import wait_until

#: The stack of this and the next rows: two slots at each server, jobs of a second and a half, so home serves 2.7 a second.
HOME_EDITS = {"model = { concurrency = 16, most = 32 }": "model = { concurrency = 2 }",
              "\ncloud_price_per_job = 0.0": "\ncloud_price_per_job = 0.01",
              "\ncloud_money_per_hour = 100.0": "\ncloud_money_per_hour = 20.0"}
PROMPT = "[stall 1500ms] done"
PER_S = 6.0
_QUIET_PER_S, _QUIET_S = 1.0, 10.0  # before the step, so that the pace is known
_CALM_S = 600.0  # for the way back, also after a row that failed
_CAPPED = 0.1  # of money, where the cap is to bind: for some ten jobs


def overload(scene: Scene, story: Story) -> None:
    """The step of load, with the shipped rules but for the prices."""
    rules, began_s = scene.rules, scene.now_s()
    _quiet(scene)
    load, step_s = _step(scene, story, scene.pace.overload_s)
    books = Books.of(scene, load.ids, step_s)
    calm(scene)
    story.mark("calm, nothing left in the cloud")
    sound(story, books, load)
    recovered_s = books.recovered_s(rules.target_wait_s)
    late_s = [wait for job, wait in zip(books.jobs, books.waits_s(), strict=True)
              if job.created_ms / 1000 > step_s + scene.pace.overload_s / 2]
    story.figure("waiting under target after (s)", "never over it" if recovered_s is None else recovered_s)
    story.figure("waiting, longest (s)", max(books.waits_s()))
    story.figure("waiting, p95 of the second half (s)", percentile(late_s, 0.95))
    story.check(percentile(late_s, 0.95) <= rules.target_wait_s * 1.2, "the second half waited longer than the target")
    story.figure("jobs", f"{len(books.jobs)}, of which {books.in_cloud} in the cloud")
    story.figure("spent", f"{books.cost(rules):.3f}, of {rules.cloud_money_per_hour:g} an hour")
    story.check(books.in_cloud, "nothing went to the cloud")
    story.check(books.cost(rules) <= rules.cloud_money_per_hour, "more was spent than the cap allows")
    predicted = books.predicted(scene.plan, rules)
    _compare(scene, story, "peak share in the cloud", books.peak_share(), predicted.peak_share)
    _compare(scene, story, "cost", books.cost(rules), predicted.cost)
    story.check(books.most_in_a_minute() <= rules.cloud_jobs_per_minute, "more was sent than the cap allows")
    changes = scene.changes(began_s)
    story.figure("transitions", _counted([change.what for change in changes]))
    for over in exceeded(changes, rules, scene.now_s() - began_s):
        story.check(False, over)


def _compare(scene: Scene, story: Story, name: str, measured: float, predicted: float) -> None:
    """Hold what was measured against what the simulator says."""
    off = abs(predicted / measured - 1) if measured else 1.0
    story.figure(name, f"{measured:.3f} measured, {predicted:.3f} predicted, {100 * off:.0f} % off")
    story.check(off <= scene.pace.predicted_within, f"the prediction of the {name} is {100 * off:.0f} % off")


def baseline(scene: Scene, story: Story) -> None:
    """The same step with overflow off: paused, as an operator does it."""
    target_s = scene.plan.rules.target_wait_s
    _quiet(scene)
    scene.board.pause("drill", "the baseline")
    try:
        load, step_s = _step(scene, story, scene.pace.overload_s)
        waited = [job for job in map(scene.job, load.ids) if job.state is not State.QUEUED and job.started_ms]
        over = [job for job in waited if job.started_ms and job.started_ms - job.created_ms > 1000 * target_s]
        story.figure("waiting under target after (s)", "never" if over else "never over it")
        oldest_s = scene.now_s() - min((job.created_ms / 1000 for job in map(scene.job, load.ids)
                                        if job.state is State.QUEUED), default=scene.now_s())
        story.figure("waiting at the end of the load (s)", oldest_s)
    finally:
        scene.board.resume("drill")
    sound(story, Books.of(scene, load.ids, step_s), load)


def capped(scene: Scene, story: Story) -> None:
    """A shorter step with a cap on money that binds: little more than what was spent before."""
    calm(scene)
    shown = scene.shown()
    spent = shown.signals.cloud.money_hour if shown and shown.signals.cloud else 0.0
    with scene.ruled("routing", cloud_money_per_hour=spent + _CAPPED):
        with Steady(lambda: scene.caller, PROMPT, per_s=PER_S, for_s=scene.pace.capped_s) as steady:
            story.begin()
            began_s = time.time()
            alert = story.wait("cap reached, alert opened", lambda: scene.alert("spend-cap", "cloud"), timeout_s=60.0)
            steady.last()
            story.mark("load over")
        books = Books.of(scene, steady.load.ids, began_s)
    if scene.pace.sees_cap_end:
        story.wait("alert closed", lambda: scene.is_closed(alert), timeout_s=180.0)
    sound(story, books, steady.load)
    cost = books.cost(scene.rules)
    story.figure("cost", f"{cost:.3f}, of {_CAPPED:g}; {books.in_cloud} of {len(books.jobs)} jobs in the cloud")
    story.check(0 < cost <= _CAPPED, "more was spent than the cap allows, or nothing")


def _quiet(scene: Scene) -> None:
    """A load that home serves easily, until the pace is known; once all is calm."""
    calm(scene)
    with Steady(lambda: scene.caller, PROMPT, per_s=_QUIET_PER_S, for_s=_QUIET_S) as steady:
        steady.last()
    scene.ended(steady.load.ids)


def calm(scene: Scene) -> None:
    """Wait until it is."""
    wait_until(lambda: is_calm(scene), timeout_s=_CALM_S, every_s=0.5, what="home to be calm and nothing in the cloud")


def is_calm(scene: Scene) -> bool:
    """Whether nothing waits, nothing is in the cloud, and nothing more is to leave."""
    shown = scene.shown()
    if shown is None or shown.signals.cloud is None or shown.remembered.share > 0:
        return False
    queue = shown.signals.queues["model"]
    return not (queue.waiting or queue.running or shown.signals.cloud.sent or shown.signals.cloud.running)


def _step(scene: Scene, story: Story, for_s: float) -> tuple[Load, float]:
    """Have the load come; mark when overflow begins and ends. Return it, and when it began (Unix seconds)."""
    with Steady(lambda: scene.caller, PROMPT, per_s=PER_S, for_s=for_s) as steady:
        story.begin()
        began_s = time.time()
        steady.last()
    story.mark("load over")
    return steady.load, began_s


def sound(story: Story, books: Books, load: Load) -> None:
    """Check that every job of the load was accepted, and ended well, once."""
    story.figure("lost, doubled, sent twice", f"{books.lost}, {books.doubled}, {books.sent_twice()}")
    story.check(not books.lost, f"{books.lost} jobs did not succeed")
    story.check(not books.doubled, f"{books.doubled} jobs were not recorded once")
    story.check(not books.sent_twice(), f"{books.sent_twice()} jobs were sent while they were out already")
    story.check(not load.refused, f"{len(load.refused)} jobs were not accepted: "
                                  + ", ".join(sorted({str(answer.status) for answer in load.refused})))


def _counted(words: list[str]) -> str:
    return f"{len(words)}: " + ", ".join(f"{word} {words.count(word)}" for word in sorted(set(words)))
