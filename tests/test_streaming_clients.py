"""Two hundred callers follow their jobs on a tiny model while it works on them, through both gateways; some are cut off
in the middle and go on at the other gateway. Each reads exactly what the job's result says. The same stack refuses prompts
that the model cannot take."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.bench.endless import without_ends
from ops.sandbox import Sandbox
from tests.caller import Caller
from tests.operating import operate
from tests.reader import LAST, Told, follow, parse, text_of
from tests.test_engine_families import save_model

CLIENTS, CUT = 200, 20
CONTEXT = 8192  # tokens
#: Of an answer, and of one whose reader is cut off in the middle. The tiny model says hundreds a second, so that both come
#: in several pieces, and the long one lasts for seconds.
TOKENS, CUT_TOKENS = 200, 2000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The stack with a tiny model behind both servers, which says all the tokens that it is asked for."""
    home = tmp_path_factory.mktemp("models")
    model = without_ends(save_model(home / "tiny", max_position_embeddings=CONTEXT), home)
    sandbox = Sandbox.lay(tmp_path_factory.mktemp("served"), engine="torch", model=str(model), dtype="float32",
                          profile="simplified", shutdown_s="5")
    sandbox.up()
    yield sandbox
    audit = sandbox.celery("audit")
    sandbox.down()
    assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.mark.timeout(600)
def test_two_hundred_callers_each_read_exactly_their_result_and_those_cut_off_go_on_at_the_other_gateway(
        served: Sandbox) -> None:
    report = served.report()
    gateways = list(report["gateways"].values())

    def read_on(number: int) -> tuple[str, list[Told]]:
        here, there = (Caller(gateways[(number + at) % 2], report["api_key"]) for at in (0, 1))
        cut = number % (CLIENTS // CUT) == 0
        with here, there:
            job_id = here.submit(input={
                "messages": [{"role": "user", "content": f"Tell a story about the number {number}."}],
                "max_tokens": CUT_TOKENS if cut else TOKENS, "seed": number, "temperature": 1.0})["id"]
            events = some_events(here, job_id, most=3 + number // 50) if cut else []
            assert not events or events[-1].name not in LAST, "cut off in the middle"
            whole = follow(there if cut else here, job_id, events[-1].id if cut else None)
            assert whole.status_code == 200, whole.text
            events += parse(whole.text)
            assert follow(here, job_id, events[-1].id).status_code == 204, "nothing is left to read"
        return job_id, events

    with ThreadPoolExecutor(CLIENTS) as threads:
        read = list(threads.map(read_on, range(CLIENTS)))
    with Caller(report["entry"], report["api_key"]) as caller:
        for job_id, events in read:
            job = caller.job(job_id)
            assert job["state"] == "succeeded", job["error"]
            assert events[-1].name == "succeeded"
            assert events[-1].data["result"] == job["result"]
            assert text_of(events) == job["result"]["text"]
            assert len({event.id for event in events}) == len(events), "nothing comes twice"
    assert sum(sum(event.name == "token" for event in events) > 1 for _, events in read) > CLIENTS / 2, (
        "most texts came in several pieces")


def some_events(caller: Caller, job_id: str, *, most: int) -> list[Told]:
    """Read the first events of a job, and hang up."""
    body = b""
    with follow(caller, job_id, stream=True) as answer:
        for chunk in answer.iter_content(chunk_size=None):
            body += chunk
            if len(events := parse(body.rpartition(b"\n\n")[0].decode())) >= most:
                return events[:most]
    raise AssertionError(f"the stream ended after {body.decode()}")


def test_the_stack_refuses_what_its_model_cannot_take(served: Sandbox) -> None:
    report, long = served.report(), "the sea is wide; " * 2500
    with Caller(report["entry"], report["api_key"]) as caller:
        before = operate(served, "audit").stdout
        answers = [caller.call("POST", "/v1/jobs", json={"service": service, "input": asked}) for service, asked in (
            ("model", {"prompt": long}), ("model", {"messages": [{"role": "user", "content": long}]}),
            ("chat", {"conversation": "c", "message": long}))]
        after = operate(served, "audit")
        fits = caller.ended(caller.submit("the sea", input={"prompt": "the sea", "max_tokens": 3})["id"])

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(422, "prompt-too-long")] * 3
    assert f"takes {CONTEXT} with the answer" in answers[0].text
    assert (after.returncode, after.stdout) == (0, before)
    assert fits["state"] == "succeeded", fits
