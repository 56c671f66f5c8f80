"""The model is asked for a title after the first answer; what the caller does to the conversation comes first."""

import msgspec
import pytest
import redis

from app.settings import Settings
from tests.gateway import Gateway
from tests.talk import Worker, ask, begin
from workers.tasks.chat_title import title_of


def title_job(client: redis.Redis, job_id: str) -> str | None:
    """The job that makes a title after this one."""
    of = [key.decode().partition(":")[2] for key in client.scan_iter("job:*") if client.hget(key, "task") == b"chat.title"
          and client.hget(key, "parent") == job_id.encode()]
    return of[0] if of else None


def test_the_first_answer_has_a_title_made_that_is_no_job_of_the_caller(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    first = ask(gateway, begun, "why is the sky blue")
    worker.run(first)
    second = ask(gateway, begun, "and the sea?")
    worker.run(second)
    job_id = title_job(client, first)
    assert job_id
    made = worker.run(job_id, '"The blue sky"\n\nI hope you like it')

    assert made.lane == "batch"
    assert gateway.call("GET", f"/v1/conversations/{begun}").json["title"] == "The blue sky"
    assert title_job(client, second) is None
    assert {job["id"] for job in gateway.call("GET", "/v1/jobs").json["data"]} == {first, second}


def test_a_title_given_in_the_meantime_stays_and_a_new_conversation_of_the_name_gets_no_old_title(
        gateway: Gateway, worker: Worker, client: redis.Redis) -> None:
    titles = []
    for name in ("renamed", "begun-anew"):
        body = {"service": "chat", "input": {"conversation": name, "message": "one"}}
        job_id = gateway.call("POST", "/v1/jobs", json=body).json["id"]
        worker.run(job_id)
        titles.append(title_job(client, job_id))
    gateway.call("PATCH", "/v1/conversations/renamed", json={"title": "Mine"})
    gateway.call("DELETE", "/v1/conversations/begun-anew")
    gateway.call("POST", "/v1/jobs", json=body)

    results = [msgspec.json.decode(worker.run(job_id, "Theirs").result) for job_id in titles if job_id]

    assert results == [{"title": "Theirs", "given": False}] * 2
    found = {each["id"]: each["title"] for each in gateway.call("GET", "/v1/conversations").json["data"]}
    assert found == {"renamed": "Mine", "begun-anew": None}


def test_where_the_model_repeats_what_it_was_told_the_title_is_of_the_question(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    first = ask(gateway, begun, "why is the sky blue, and the sea?")
    worker.run(first)
    made = worker.run(str(title_job(client, first)), "At most 6 words, in its")

    assert msgspec.json.decode(made.result) == {"title": "why is the sky blue, and", "given": True}


def test_titles_can_be_turned_off_and_a_titled_conversation_gets_none(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    titled = ask(gateway, begin(gateway, title="Mine"))
    worker.run(titled)
    worker.settings = Settings(titles=False)
    unwanted = ask(gateway, begun)
    worker.run(unwanted)

    assert (title_job(client, titled), title_job(client, unwanted)) == (None, None)


@pytest.mark.parametrize(("written", "title"), [
    ("Blue skies", "Blue skies"), ('"Blue skies."', "Blue skies"), ("**Title: Blue skies**\nmore", "Blue skies"),
    ("\n\n# one two  three four five six", "one two three four five six"),
    ("Death in the Afternoon", "Death in the Afternoon"), ("Bora Bora", "Bora Bora"), ("蓝天", "蓝天"),
    ("Most common words in English", "Most common words in English")])
def test_a_title_is_the_first_line_without_what_is_around_it(written: str, title: str) -> None:
    assert title_of(written, question="what else") == title


@pytest.mark.parametrize("written", [
    "", "  \n ", '"**"', "At most 6 words, in its", "The most 6 words in the", "Title for the Text Above",
    "Do not answer it.", "El Turco, el Turco, el Turco", "one two three four five six seven", "x" * 61])
def test_what_is_no_title_gives_way_to_the_question(written: str) -> None:
    assert title_of(written, question="who was El Turco?") == "who was El Turco?"


@pytest.mark.parametrize(("question", "title"), [
    ("\n why  is\nthe sky blue, and the sea", "why is the sky blue, and"), ("one two.", "one two"),
    ("an " + "extraordinarily " * 5, "an extraordinarily extraordinarily extraordinarily"), ("x" * 300, "x" * 60),
    ('"Hello," he said', 'Hello," he said'), (" \n", ""), ("***", "")])
def test_the_question_gives_its_first_whole_words(question: str, title: str) -> None:
    assert title_of("", question=question) == title
