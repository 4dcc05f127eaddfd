#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Talks to hadal-serve with the official client, where that is installed (pip install openai).
"""Serves a model and uses the openai Python client on it.

    check_openai.py --hadalc build/bin/hadalc --hadal-serve build/bin/hadal-serve --model models/abyss-tiny
"""
import argparse
import json
import sys
import tempfile
import typing
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run

try:
    import openai
    import pydantic  # The client needs it, too.
except ImportError:
    print("skipped: there is no openai client for this Python")
    sys.exit(harness.SKIPPED)
from check_serve import Server, expect

HELLO = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]


def check_chat(client, model):
    answer = client.chat.completions.create(model=model, messages=HELLO, max_completion_tokens=20, temperature=0, logprobs=True, top_logprobs=2)
    choice = answer.choices[0]
    expect(choice.message.role == "assistant" and choice.message.content, f"message: {choice.message}")
    expect(choice.finish_reason in ("stop", "length") and answer.usage.completion_tokens > 0, f"{choice}, {answer.usage}")
    expect(len(choice.logprobs.content[0].top_logprobs) == 2, "top_logprobs")
    text, usage = "", None
    with client.chat.completions.create(model=model, messages=HELLO, max_tokens=20, temperature=0, stream=True,
                                        stream_options={"include_usage": True}) as stream:
        for event in stream:
            text += "".join(choice.delta.content or "" for choice in event.choices)
            usage = event.usage or usage
    expect(text == choice.message.content and usage.total_tokens == answer.usage.total_tokens, f"the stream gives {text!r}, {usage}")
    several = client.chat.completions.create(model=model, messages=HELLO, max_tokens=20, temperature=1, seed=1, n=3).choices
    again = client.chat.completions.create(model=model, messages=HELLO, max_tokens=20, temperature=1, seed=3).choices[0]
    expect([choice.index for choice in several] == [0, 1, 2] and several[2].message == again.message, f"n 3: {several}")
    return repr(text)


def check_completion(client, model):
    options = dict(model=model, prompt="Once upon a time", max_tokens=24, temperature=0.8, seed=3)
    answer = client.completions.create(**options, stop=["\n"], logprobs=2)
    expect(len(answer.choices[0].logprobs.tokens) > 0, "logprobs")
    texts = ["".join(event.choices[0].text for event in client.completions.create(**options, stream=True)) for _ in range(2)]
    expect(texts[0] == texts[1], f"one seed, two texts: {texts}")
    prompts = client.completions.create(**options | {"prompt": ["Once", options["prompt"]]}).choices
    expect(len(prompts) == 2 and prompts[1].text == texts[0], f"two prompts: {prompts}")
    return repr(texts[0])


def check_models(client, model):
    expect([m.id for m in client.models.list()] == [model] and client.models.retrieve(model).id == model, "models")
    return model


def check_errors(client, model):
    def refuse(kind, **options):
        try:
            client.chat.completions.create(**{"model": model, "messages": HELLO} | options)
        except kind as error:
            return f"{error.status_code} {error.param}"
        raise Failure(f"{options} was not refused")
    return ", ".join((refuse(openai.BadRequestError, temperature=3), refuse(openai.NotFoundError, model="gpt"),
                      refuse(openai.BadRequestError, max_tokens=10**6),
                      refuse(openai.BadRequestError, response_format={"type": "xml"})))


class Person(pydantic.BaseModel):
    name: typing.Annotated[str, pydantic.Field(max_length=12)]
    age: typing.Annotated[int, pydantic.Field(ge=1, le=99)]
    likes: typing.Literal["bread", "rivers"]


def check_schema(client, model):
    options = dict(model=model, messages=HELLO, max_tokens=100, temperature=1, seed=4)
    person = client.chat.completions.parse(**options, response_format=Person).choices[0].message.parsed
    expect(1 <= person.age <= 99, f"person: {person}")
    answer = client.chat.completions.create(**options | {"max_tokens": 1000}, response_format={"type": "json_object"})
    choice = answer.choices[0]
    expect(choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict), f"object: {choice}")
    return repr(person)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--hadal-serve", required=True, type=harness.existing_file)
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        product = Path(folder) / "model"
        must_run([args.hadalc, args.model, "-o", product, "--emit=lib"], 120)
        server = Server(args.hadal_serve, product)
        try:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
            print(f"openai {openai.__version__}")
            code = harness.run_checks([(name, lambda check=check: check(client, product.name)) for name, check in (
                ("models", check_models), ("chat", check_chat), ("completion", check_completion), ("schema", check_schema),
                ("errors", check_errors))])
            client.close()
            return server.stop() or code
        finally:
            server.process.kill()


if __name__ == "__main__":
    sys.exit(main())
