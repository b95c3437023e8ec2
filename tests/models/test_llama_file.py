"""A GGUF gives its greedy answer where it is sure, and else the likeliest of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from overseer_training.models.decoding import Sampling
from overseer_training.models.llama_file import LlamaFile
from overseer_training.prompts import with_system
from overseer_training.records import Turn

ASKED = with_system([Turn("user", "list src")])
Choice = tuple[str, list[float], str]  # text, log-probability of each token, how it ends


class Scripted:
    """A llama.cpp that gives what is written, request by request."""

    def __init__(self, *requests: list[Choice]) -> None:
        self.requests = list(requests)
        self.asked: list[dict[str, Any]] = []

    def handle_chat_completions(self, body: dict[str, Any], take: Callable[[dict[str, Any]], bool]) -> None:
        self.asked.append(body)
        choices = []
        for index, (text, chances, ending) in enumerate(self.requests.pop(0)):
            content = [{"logprob": chance} for chance in chances]
            choices.append({"index": index, "logprobs": {"content": content}, "finish_reason": ending})
            choices[-1]["delta" if body.get("stream") else "message"] = {"content": text}
        take({"choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 2}})


def scripted(*requests: list[Choice]) -> tuple[LlamaFile, Scripted]:
    file, server = object.__new__(LlamaFile), Scripted(*requests)
    file._server = server
    return file, server


def test_an_answer_that_nothing_can_beat_is_taken_at_once() -> None:
    file, server = scripted([("ls", [-0.3, -0.3], "stop")])
    assert file.find_likeliest(ASKED, 8).text == "ls"
    assert len(server.asked) == 1


def test_where_the_model_is_not_sure_the_likeliest_of_several_answers_wins() -> None:
    drawn: list[Choice] = [("ls -l", [-0.5, -0.6], "stop"), ("ls -la", [-0.1], "length"), ("dir", [-9.0], "stop")]
    file, server = scripted([("ls -x", [-0.7], "stop")], [("ls -x", [-0.7, -0.5], "stop")], drawn)
    answer = file.find_likeliest(ASKED, 8)
    assert (answer.text, answer.prompt_tokens, answer.answer_tokens, answer.ending) == ("ls -l", 5, 2, "stop")
    assert [body["temperature"] > 0 for body in server.asked] == [False, False, True]
    file, _ = scripted([("ls -x", [-0.7], "stop")], [("ls -x", [-0.7, -0.2], "stop")], drawn)
    assert file.find_likeliest(ASKED, 8).text == "ls -x"


def test_one_draw_is_asked_for_where_the_caller_wants_chance() -> None:
    file, server = scripted([("ls", [-5.0], "stop")])
    assert file.draw(ASKED, 8, Sampling(0.4, seed=3)).text == "ls"
    assert (server.asked[0]["temperature"], server.asked[0]["seed"], "n" in server.asked[0]) == (0.4, 3, False)
