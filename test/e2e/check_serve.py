#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Runs hadal-serve on a small model and holds it to what docs/serving.md promises.
"""Compiles a model as a library, serves it, and checks answers, errors and load.

    check_serve.py --hadalc build/bin/hadalc --hadal-serve build/bin/hadal-serve --model models/abyss-tiny
"""
import argparse
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
WORDS = "once upon a time the little fox saw moon and river then ran home with bread for every friend".split()


def expect(condition, message):
    if not condition:
        raise Failure(message)


class Server:
    """hadal-serve in a process of its own, on a port of its own."""

    def __init__(self, program, product, *options, log="--quiet"):
        # What a sanitizer keeps to catch later use is no leak.
        environment = os.environ | {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
        self.process = subprocess.Popen([program, product, "--port", "0", log, *map(str, options)],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not found:
            self.process.kill()
            raise Failure(f"hadal-serve did not start: {line}{self.process.communicate()[1]}")
        self.port = int(found[1])

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def raw(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def ask(self, method, path, body=None, headers=None):
        """Returns (status, headers, body)."""
        with contextlib.closing(self.connect()) as connection:
            if isinstance(body, dict):
                body = json.dumps(body)
            headers = {"Content-Type": "application/json"} | (headers or {})
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def post(self, path, **body):
        status, _, answer = self.ask("POST", path, body)
        expect(status == 200, f"{path}: expected status 200, got {status}: {answer[:200]}")
        return json.loads(answer)

    def texts(self, path, **body):
        return [choice["message"]["content"] if path == CHAT else choice["text"] for choice in self.post(path, **body)["choices"]]

    def text(self, path, **body):
        return self.texts(path, **body)[0]

    def stream(self, path, **body):
        """Returns the events of a stream, each a JSON object."""
        status, headers, answer = self.ask("POST", path, body | {"stream": True})
        expect(status == 200 and headers["Content-Type"].startswith("text/event-stream"),
               f"{path}: expected a stream, got {status}: {answer[:200]}")
        events = answer.decode().split("\n\n")  # Raises for a character that was cut.
        expect(events[-1] == "" and events[-2] == "data: [DONE]", f"the stream ends with {events[-2:]}")
        return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]

    def metric(self, name):
        return int(re.search(rf"^{name} (\d+)$", self.ask("GET", "/metrics")[2].decode(), re.M)[1])

    def wait_for(self, name, value):
        for _ in range(200):
            if self.metric(name) == value:
                return
            time.sleep(0.02)
        raise Failure(f"{name} is {self.metric(name)}, expected {value}")

    def resident_bytes(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def stop(self):
        """Returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            _, err = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure("hadal-serve did not stop within 60 s of SIGTERM")
        expect(not err, f"stderr: {err[:2000]}")
        return self.process.returncode


def pieces(events):
    """The joined text of a stream's events."""
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or ""
                   for event in events for choice in event["choices"])


def choices_of(events):
    """The text of each choice of a stream, and its reason to end."""
    found = {}
    for event in events:
        for choice in event["choices"]:
            text, reason = found.get(choice["index"], ("", None))
            found[choice["index"]] = (text + pieces([{"choices": [choice]}]), choice["finish_reason"] or reason)
    return [found[i] for i in sorted(found)]


def check_answers(server, hadal_run, product):
    prompt = "Once upon a time"
    body = dict(prompt=prompt, max_tokens=30, temperature=0)
    expected = json.loads(must_run([hadal_run, product, "--prompt", prompt, "-n", "30", "--json"], 60))
    answer = server.post(COMPLETIONS, **body)
    expect(answer["choices"][0]["text"] == expected["text"], f"text is {answer}, expected {expected['text']!r}")
    expect(answer["usage"]["prompt_tokens"] == len(expected["prompt_tokens"])
           and answer["usage"]["completion_tokens"] == len(expected["tokens"]), f"usage is {answer['usage']}")
    # The same prompt as ids.
    expect(server.text(COMPLETIONS, **body | {"prompt": expected["prompt_tokens"]}) == expected["text"], "ids differ from text")

    expected = json.loads(must_run([hadal_run, product, "--chat", "Hello", "--system", "Be kind.", "-n", "40", "--json"], 60))
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    body = dict(messages=messages, max_completion_tokens=40, temperature=0)
    answer = server.post(CHAT, **body)
    expect(answer["choices"][0]["message"] == {"role": "assistant", "content": expected["text"], "refusal": None},
           f"message is {answer['choices'][0]['message']}, expected {expected['text']!r}")
    reason = "stop" if expected["stop"] == "eos" else "length"
    expect(answer["choices"][0]["finish_reason"] == reason, f"finish_reason is {answer['choices'][0]['finish_reason']}")
    events = server.stream(CHAT, **body, stream_options={"include_usage": True})
    expect(pieces(events) == expected["text"], "the stream has another text")
    expect(events[0]["choices"][0]["delta"]["role"] == "assistant", f"the first event is {events[0]}")
    expect(events[-2]["choices"][0]["finish_reason"] == reason, f"the last event but one is {events[-2]}")
    usage = events[-1]["usage"]
    expect(not events[-1]["choices"] and usage["completion_tokens"] == answer["usage"]["completion_tokens"], f"usage: {usage}")
    expect("usage" not in server.stream(CHAT, **body)[-1], "usage was not asked for")

    status, headers, page = server.ask("GET", "/")
    expect(status == 200 and b"<textarea" in page and headers["Content-Type"].startswith("text/html"), f"/: {status}")
    expect(not re.search(rb"(src|href)=|https?://|@import|url\(", page), "the page loads something")
    name = json.loads(server.ask("GET", "/v1/models")[2])["data"][0]["id"]
    expect(json.loads(server.ask("GET", f"/v1/models/{name}")[2])["id"] == name == product.name, f"the model is {name}")
    expect(server.ask("GET", "/health")[0] == 200 and server.ask("HEAD", "/health")[2] == b"", "/health")
    return "completions, chat, streams, models, health, page"


def check_options(server):
    story = dict(prompt="Once upon a time", max_tokens=40, temperature=0)
    whole = server.text(COMPLETIONS, **story)
    # A stop string that spans tokens, alone and among others, with and without a stream.
    stop = whole[17:26]
    cut = whole[:whole.index(stop)]
    for stops in (stop, ["#####", stop], [stop + "x", stop]):
        answer = server.post(COMPLETIONS, **story, stop=stops)["choices"][0]
        expect((answer["text"], answer["finish_reason"]) == (cut, "stop"), f"with stop {stops}: {answer}")
        expect(pieces(server.stream(COMPLETIONS, **story, stop=stops)) == cut, f"the stream with stop {stops} differs")
    # What looks like the start of a stop string comes in the end.
    expect(server.text(COMPLETIONS, **story, stop=whole[-6:] + "\0") == whole, "text that was held back is lost")

    wild = dict(prompt="Once", max_tokens=200, temperature=2, ignore_eos=True)
    texts = [server.text(COMPLETIONS, **wild, seed=seed) for seed in (1, 2, 1)]
    expect(texts[0] == texts[2] != texts[1], "the seed does not decide the text")
    without = [server.text(COMPLETIONS, **wild) for _ in range(2)]
    expect(without[0] != without[1], "without a seed, the text is the same")
    expect(pieces(server.stream(COMPLETIONS, **wild, seed=1)) == texts[0], "the stream differs")
    expect(server.text(COMPLETIONS, **wild, seed=5, top_k=1) == server.text(COMPLETIONS, **wild, seed=6, top_p=1e-6), "top_k, top_p")

    tokens = server.post(COMPLETIONS, **story, logprobs=3)["choices"][0]["logprobs"]
    expect("".join(tokens["tokens"]) == whole and len(tokens["top_logprobs"][0]) == 3, f"logprobs: {tokens}")
    expect(all(value <= 0 and value == max(top.values()) for value, top in zip(tokens["token_logprobs"], tokens["top_logprobs"])),
           "a greedy token is not the likeliest")
    chat = dict(messages=[{"role": "user", "content": "Hi"}], max_tokens=5, temperature=0, logprobs=True, top_logprobs=2)
    content = server.post(CHAT, **chat)["choices"][0]["logprobs"]["content"]
    expect(len(content) == 5 and all(len(token["top_logprobs"]) == 2 for token in content), f"logprobs: {content}")
    streamed = [token for event in server.stream(CHAT, **chat)
                for choice in event["choices"] for token in (choice["logprobs"] or {"content": []})["content"]]
    expect(streamed == content, "the stream has other logprobs")
    return "stop, seed, top_k, top_p, logprobs"


def check_choices(server):
    """Several answers to a prompt, and several prompts: each is as it is alone."""
    words = " ".join(WORDS[i % len(WORDS)] for i in range(77))
    body = dict(prompt=words, max_tokens=30, temperature=1, ignore_eos=True)
    alone = [server.text(COMPLETIONS, **body, seed=40 + i) for i in range(5)]
    expect(len(set(alone)) == 5, f"seeds do not matter: {alone}")
    before = server.metric("hadal_prompt_cached_tokens_total")
    answer = server.post(COMPLETIONS, **body, seed=40, n=5)
    expect([choice["text"] for choice in answer["choices"]] == alone, f"n 5: expected {alone}, got {answer}")
    expect([choice["index"] for choice in answer["choices"]] == list(range(5)), f"indices of {answer}")
    usage = answer["usage"]
    expect(usage["completion_tokens"] == 150 and usage["total_tokens"] == usage["prompt_tokens"] + 150, f"usage is {usage}")
    # The prompt was computed once, if at all.
    expect(server.metric("hadal_prompt_cached_tokens_total") - before > 4 * usage["prompt_tokens"] // 2, "choices do not share their prompt")
    events = server.stream(COMPLETIONS, **body, seed=40, n=5, stream_options={"include_usage": True})
    expect(choices_of(events) == [(text, "length") for text in alone], f"the stream differs: {choices_of(events)}")
    expect(events[-1]["usage"] | {"prompt_tokens_details": 0} == usage | {"prompt_tokens_details": 0}, f"usage is {events[-1]['usage']}")

    prompts = ["Once", words, "The fox"]
    body = body | {"prompt": prompts, "seed": 40}
    expected = [server.text(COMPLETIONS, **body | {"prompt": prompt, "seed": seed}) for prompt in prompts for seed in (40, 41)]
    answer = server.post(COMPLETIONS, **body, n=2)
    expect([choice["text"] for choice in answer["choices"]] == expected, f"three prompts: expected {expected}, got {answer}")

    chat = dict(messages=[{"role": "user", "content": "Hi"}], temperature=1, max_tokens=20, logprobs=True)
    alone = [server.post(CHAT, **chat, seed=seed)["choices"][0] for seed in (-1, 0)]
    answer = server.post(CHAT, **chat, seed=-1, n=2)
    expect([choice | {"index": 0} for choice in answer["choices"]] == alone, f"chat: expected {alone}, got {answer}")
    roles = [choice["index"] for event in server.stream(CHAT, **chat, n=2) for choice in event["choices"] if "role" in choice.get("delta", {})]
    expect(roles == [0, 1], f"the first events are of {roles}")

    # Who hangs up cancels all of them.
    cancelled = server.metric("hadal_cancellations_total")
    start_stream(server, **LONG, n=3).close()
    server.wait_for("hadal_cancellations_total", cancelled + 3)
    return "n, several prompts, streams, usage"


USER = [{"role": "user", "content": "Hi"}]
# Path, body or its fields, status, what the message says.
REFUSED = [
    (COMPLETIONS, "{", 400, "wrong at byte"), (COMPLETIONS, b'{"prompt":"\xff"}', 400, "UTF-8"),
    (COMPLETIONS, '{"prompt":"\\ud800"}', 400, "wrong at byte"), (COMPLETIONS, "[" * 100000, 400, "wrong at byte"),
    (COMPLETIONS, "[" * 100000 + "]" * 100000, 400, "array, expected an object"),
    (COMPLETIONS, '{"prompt":"x","temperature":1e999}', 400, "out of range"), (COMPLETIONS, "", 400, "wrong at byte"),
    (COMPLETIONS, {}, 400, "prompt is null"), (COMPLETIONS, {"prompt": 5}, 400, "prompt is 5"),
    (COMPLETIONS, {"prompt": ["a", 5]}, 400, "prompt[1] is 5"), (COMPLETIONS, {"prompt": ["a"] * 129}, 400, "at most 128 prompts"),
    (COMPLETIONS, {"prompt": [-1]}, 400, "-1, expected a token id"),
    (COMPLETIONS, {"prompt": [2048]}, 400, "prompt[0] is 2048"), (COMPLETIONS, {"prompt": [[1], [2048]]}, 400, "prompt[1][0] is 2048"), (COMPLETIONS, {"prompt": [1.5]}, 400, "1.5"),
    (COMPLETIONS, {"prompt": []}, 400, "prompt is array"),
    (COMPLETIONS, {"prompt": [1] * 2049}, 400, "has 2049 tokens, but the context has 2048"),
    (COMPLETIONS, {"prompt": "x", "max_tokens": 0}, 400, "max_tokens is 0, expected an integer, 1 .."),
    (COMPLETIONS, {"prompt": "x", "max_tokens": 5000}, 400, "max_tokens is 5000, but"),
    (COMPLETIONS, {"prompt": "x", "max_tokens": 2**64 - 1}, 400, "max_tokens is 18446744073709551615"),
    (COMPLETIONS, {"prompt": "x", "seed": 2**63}, 400, "seed is 9223372036854775808"),
    (COMPLETIONS, {"prompt": "x", "temperature": "1"}, 400, 'temperature is "1", expected a number, 0.0 .. 2.0'),
    (COMPLETIONS, {"prompt": "x", "top_p": 0}, 400, "top-p: expected a number > 0"),
    (COMPLETIONS, {"prompt": "x", "top_k": 1.5}, 400, "top_k is 1.5"), (COMPLETIONS, {"prompt": "x", "n": 129}, 400, "n is 129, expected an integer, 1 .. 128"),
    (COMPLETIONS, {"prompt": ["x", "y", "z"], "n": 43}, 400, "at most 2 prompts with n 43"),
    (COMPLETIONS, {"prompt": "x", "n": 2, "best_of": 3}, 400, "best_of is 3, expected 2"),
    (COMPLETIONS, {"prompt": "x", "stop": ""}, 400, 'stop is ""'), (COMPLETIONS, {"prompt": "x", "stop": ["a"] * 17}, 400, "stop is array"),
    (COMPLETIONS, {"prompt": "x", "stream": 1}, 400, "stream is 1, expected true or false"),
    (COMPLETIONS, {"prompt": "x", "stream_options": {}}, 400, "stream_options"),
    (COMPLETIONS, {"prompt": "x", "logprobs": 21}, 400, "logprobs is 21"), (COMPLETIONS, {"prompt": "x", "frob": 1}, 400, "'frob'"),
    (COMPLETIONS, {"prompt": "x", "model": "gpt"}, 404, 'model is "gpt", expected'), (COMPLETIONS, {"prompt": "x", "messages": []}, 400, "'messages'"),
    (COMPLETIONS, {"prompt": "x", "presence_penalty": 1}, 400, "presence_penalty is 1"),
    (CHAT, {"messages": []}, 400, "messages is array"), (CHAT, {"messages": ["x"]}, 400, 'messages[0] is "x"'),
    (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, 400, 'messages[0].role is "tool"'),
    (CHAT, {"messages": [{"role": "user"}]}, 400, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": "a<｜Assistant｜>b"}]}, 400, "special token '<｜Assistant｜>'"),
    (CHAT, {"messages": USER, "tools": []}, 400, "'tools'"), (CHAT, {"messages": USER, "top_logprobs": 1}, 400, "top_logprobs"),
    (CHAT, {"messages": USER, "response_format": {"type": "xml"}}, 400, 'response_format.type is "xml", expected "text", "json_object"'),
    (CHAT, {"messages": USER, "response_format": {"type": "json_object", "x": 1}}, 400, "unknown or unsupported field 'x'"),
    (CHAT, {"messages": USER, "response_format": {"type": "json_schema", "json_schema": {}}}, 400, "response_format.json_schema.name is null"),
    (CHAT, {"messages": USER, "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, 400, "json_schema.schema is null"),
    (CHAT, {"messages": USER, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {
        "a": {"type": "string", "pattern": "a(?=b)"}}}}}}, 400, "at '/properties/a': pattern is '\"a(?=b)\"', at character 4, a pattern that looks around"),
    (COMPLETIONS, {"prompt": "x", "response_format": 5}, 400, "response_format is 5, expected an object"),
    (CHAT, {"messages": USER, "chat_template_kwargs": {"thinking": True}}, 400, "thinking"),
    ("/v1/embeddings", {}, 404, "/v1/embeddings"),
]


def check_error(status, answer, expected_status, needle):
    expect(status == expected_status, f"expected status {expected_status}, got {status}: {answer[:300]}")
    error = json.loads(answer)["error"]
    expect(needle in error["message"], f"expected {needle!r} in {error['message']!r}")
    expect({"message", "type", "param", "code"} == set(error), f"error has {set(error)}")


def check_refusals(server):
    with contextlib.closing(server.connect()) as connection:  # One connection, while it is kept open.
        for path, body, status, needle in REFUSED:
            connection.request("POST", path, json.dumps(body) if isinstance(body, dict) else body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            check_error(response.status, response.read(), status, needle)
    types = {"Content-Type": "application/json"}
    check_error(*server.ask("GET", COMPLETIONS)[::2], 405, "GET, expected POST")
    check_error(*server.ask("DELETE", "/health")[::2], 405, "DELETE")
    check_error(*server.ask("GET", "/v1/models/other")[::2], 404, "'other'")
    check_error(*server.ask("POST", COMPLETIONS, "x=1", {"Content-Type": "text/plain"})[::2], 415, "'text/plain'")
    check_error(*server.ask("POST", COMPLETIONS, "{}", types | {"Content-Encoding": "gzip"})[::2], 415, "gzip")
    large = "x" * (1 << 21)
    check_error(*server.ask("POST", COMPLETIONS, large)[::2], 413, "2097152 bytes, expected at most 1048576")
    check_error(*server.ask("POST", COMPLETIONS, iter([large.encode()]), types | {"Transfer-Encoding": "chunked"})[::2], 413, "1048576")
    for request, status in ((b"hello\r\n\r\n", 400), (b"GET / HTTP/9\r\n\r\n", 400), (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
                            (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 6000 + b"\r\n", 431), (b"GET / HTTP/1.1\r\n" + b"z" * 90000, 431),
                            (b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n\r\n", 411)):
        with contextlib.closing(server.raw()) as client:
            client.sendall(request)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
            expect(answer.startswith(b"HTTP/1.1 %d " % status), f"{request[:30]}: expected {status}, got {answer[:60]}")
    # A body that nobody reads is not taken for a request.
    with contextlib.closing(server.raw()) as client:
        hidden = b"GET /health HTTP/1.1\r\n\r\n"
        client.sendall(b"GET /health HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        expect(answer.count(b"HTTP/1.1 200") == 1, f"expected one answer, got {answer}")
    return f"{len(REFUSED)} bodies, and what is not HTTP"


def send_request(client, data, length=None):
    """Sends a request with `data` as its body, of which it says that there are `length` bytes."""
    client.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                   % (len(data) if length is None else length) + data)


class Bystanders:
    """While it lives, one client asks what can be answered, and others send a request byte by byte."""

    STORY = dict(prompt="Once upon a time", max_tokens=8, temperature=0)

    def __init__(self, server, slow):
        self.server, self.ended = server, threading.Event()
        self.expected, self.waits, self.errors = server.text(COMPLETIONS, **self.STORY), [], []
        self.threads = [threading.Thread(target=self.ask)] + [threading.Thread(target=self.dribble) for _ in range(slow)]

    def ask(self):
        while not self.ended.wait(0.05):
            start = time.monotonic()
            try:
                text = self.server.text(COMPLETIONS, **self.STORY)
                expect(text == self.expected, f"expected {self.expected!r}, got {text!r}")
            except (Failure, OSError, ValueError, http.client.HTTPException) as error:
                self.errors.append(error)
            self.waits.append(time.monotonic() - start)

    def dribble(self):
        while not self.ended.is_set():
            with contextlib.closing(self.server.raw()) as client, contextlib.suppress(OSError):  # The server hangs up.
                for byte in b"POST /v1/completions HTTP/1.1\r\n" + b"X-Slow: yes\r\n" * 10:
                    client.sendall(bytes([byte]))
                    if self.ended.wait(0.1):
                        break

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def check_bad_requests(server, count):
    """No leak: after some, more of them take no more memory. No stall: meanwhile, others are answered as ever.

    An allocator keeps what it once had, for each size and thread, and takes ever less. So it is the last third that counts, and memory when
    nobody is served.
    """
    random.seed(1)
    kinds = [(path, body) for path, body, *_ in REFUSED if len(str(body)) < 3000]

    def run(number):
        with contextlib.closing(server.connect()) as connection:
            for i in range(number):
                path, body = random.choice(kinds)
                data = json.dumps(body).encode() if isinstance(body, dict) else body if isinstance(body, bytes) else body.encode()
                if random.random() < 0.5:  # Broken somewhere.
                    data = data[:random.randrange(len(data) + 1)] + bytes(random.randrange(256) for _ in range(3))
                if i % 10 == 0:  # Leaves before all has been sent, or with the answer on its way.
                    with contextlib.closing(server.raw()) as client:
                        send_request(client, data, len(data) + i // 10 % 2)
                elif i % 100 == 1:  # Leaves in the midst of an answer.
                    start_stream(server, **LONG).close()
                elif i % 100 == 2:  # Says nothing that is HTTP.
                    with contextlib.closing(server.raw()) as client:
                        client.sendall(bytes(random.randrange(256) for _ in range(random.randrange(500))) + b"\r\n\r\n")
                else:
                    connection.request("POST", path, data, {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    status, _ = response.status, response.read()
                    expect(400 <= status < 500 or b'"n"' not in data, f"status {status} for {data[:200]}")

    waits, resident = [], []
    for _ in range(3):
        with Bystanders(server, slow=8) as bystanders:
            run(count // 3)
        expect(not bystanders.errors, f"meanwhile: {bystanders.errors[:1]}")
        waits += bystanders.waits
        server.wait_for("hadal_running", 0)
        server.wait_for("hadal_connections", 1)
        resident.append(server.resident_bytes())
    expect(max(waits) < 10, f"another request took {max(waits):.1f} s meanwhile")
    # Whole pages, and a fourth of the smallest of what a request takes.
    grown, most = resident[2] - resident[1], (1 << 20) + count // 3 * 256
    thirds = " -> ".join(f"{size >> 10}" for size in resident)
    expect(grown < most, f"{thirds} KiB resident after each third, expected at most {most >> 10} more in the last")
    return f"{count}, {thirds} KiB resident after each third; {len(waits)} others answered meanwhile, in {max(waits):.2f} s at most"


def make_requests(count):
    """Requests of mixed kinds and lengths; each says what decides its answer."""
    random.seed(7)
    requests = []
    for i in range(count):
        words = " ".join(random.choice(WORDS) for _ in range(random.choice((3, 20, 60, 150))))
        body = {"max_tokens": random.choice((4, 20, 60, 120)), "temperature": random.choice((0, 0.7, 1.5)), "seed": i, "ignore_eos": i % 3 == 0,
                "n": 3 if i % 8 == 0 else 1}
        body |= {"messages": [{"role": "user", "content": words}]} if i % 2 else {"prompt": words}
        requests.append((CHAT if i % 2 else COMPLETIONS, body, i % 4 < 2))
    return requests


def check_load(server, alone, clients):
    """Many at once, with too few pages for them: none is lost, each is as it is alone."""
    requests = make_requests(clients)
    expected = [alone.texts(path, **body) for path, body, _ in requests]
    found = [None] * clients

    def client(i):
        path, body, streams = requests[i]
        try:
            found[i] = [text for text, _ in choices_of(server.stream(path, **body))] if streams else server.texts(path, **body)
        except (Failure, OSError, ValueError) as error:
            found[i] = error

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(clients):
        expect(found[i] == expected[i], f"request {i} {requests[i]}: expected {expected[i]!r}, got {found[i]!r}")
    preemptions = server.metric("hadal_preemptions_total")
    expect(preemptions > 0, "there were pages enough for all: nothing was preempted")
    server.wait_for("hadal_running", 0)
    server.wait_for("hadal_queue_length", 0)
    return f"{clients} clients, {server.metric('hadal_steps_total')} steps, {preemptions} preemptions"


def check_prefix(server, alone):
    shared = " ".join(WORDS[i % len(WORDS)] for i in range(200))
    answers = [server.post(COMPLETIONS, prompt=shared + end, max_tokens=20, temperature=0) for end in ("", " fox", " moon", " fox")]
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers]
    expect(cached[0] == 0 and min(cached[1:]) > 150 and cached[3] >= cached[1], f"cached tokens: {cached}")
    for answer, end in zip(answers, ("", " fox", " moon", " fox")):
        expect(answer["choices"][0]["text"] == alone.text(COMPLETIONS, prompt=shared + end, max_tokens=20, temperature=0), f"after '{end}'")
    return f"cached {cached[1:]} of {answers[1]['usage']['prompt_tokens']} tokens"


LONG = dict(prompt="Once", max_tokens=2000, ignore_eos=True)


def start_stream(server, **body):
    """Returns a socket whose stream has begun."""
    client = server.raw()
    send_request(client, json.dumps(body | {"stream": True}).encode())
    got = b""
    while b"data: " not in got:
        chunk = client.recv(4096)
        expect(chunk, f"the stream ended: {got}")
        got += chunk
    return client


def check_clients(server):
    """Clients that hang up, and such as neither read nor send."""
    before, cancelled = server.metric("hadal_generated_tokens_total"), server.metric("hadal_cancellations_total")
    for _ in range(3):
        start_stream(server, **LONG).close()
    server.wait_for("hadal_cancellations_total", cancelled + 3)
    client = server.raw()  # One that waits for the whole answer.
    send_request(client, json.dumps(LONG).encode())
    server.wait_for("hadal_running", 1)
    client.close()
    server.wait_for("hadal_cancellations_total", cancelled + 4)
    server.wait_for("hadal_running", 0)
    generated = server.metric("hadal_generated_tokens_total") - before
    expect(generated < 6000, f"{generated} tokens were generated for nobody")

    # Those that send a part and wait hold nobody up, and are told so in the end.
    idle = [server.raw() for _ in range(30)]
    for i, client in enumerate(idle):
        client.sendall((b"P", b"POST /v1/completions HTTP/1.1\r\nX: ", b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 100\r\n\r\n{")[i % 3])
    start = time.monotonic()
    server.text(COMPLETIONS, prompt="x", max_tokens=4)
    expect(time.monotonic() - start < 1, "slow clients hold others up")
    answers = [b"".join(iter(lambda: client.recv(4096), b"")) for client in idle]
    expect(all(answer.startswith(b"HTTP/1.1 408") for answer in answers[2::3]), f"expected 408, got {answers[2][:60]}")
    expect(time.monotonic() - start < 10, "slow clients are kept too long")
    server.wait_for("hadal_connections", 1)

    # Nor do those that ask for much and read nothing of it.
    deaf = []
    for _ in range(4):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        client.connect(("127.0.0.1", server.port))
        send_request(client, json.dumps(LONG | {"stream": True, "logprobs": 5}).encode())
        deaf.append(client)
    server.wait_for("hadal_connections", 5)
    start = time.monotonic()
    server.text(COMPLETIONS, prompt="x", max_tokens=4)
    expect(time.monotonic() - start < 5, "clients that do not read hold others up")
    for client in deaf:
        client.close()
    server.wait_for("hadal_running", 0)
    server.wait_for("hadal_connections", 1)
    return f"{generated} tokens until 4 generations were cancelled"


def check_full(server):
    """One runs, one waits, and the third is told to come back."""
    running = start_stream(server, **LONG)
    waiting = server.connect()
    waiting.request("POST", COMPLETIONS, json.dumps({"prompt": "x", "max_tokens": 3}), {"Content-Type": "application/json"})
    server.wait_for("hadal_queue_length", 1)
    status, headers, answer = server.ask("POST", COMPLETIONS, {"prompt": "x"})
    check_error(status, answer, 429, "no room for 1 more: at most 1 wait")
    expect(headers["Retry-After"] == "1", f"Retry-After is {headers['Retry-After']}")
    running.close()
    response = waiting.getresponse()
    expect(response.status == 200, f"the one that waited got {response.status}")
    waiting.close()
    return "429, then 200"


def check_timeout(start):
    """One at a time, and more than can end within the second that each has, waiting included."""
    server = start("--max-running", 1, "--timeout", 1)
    found = [None] * 30

    def client(i):
        found[i] = server.ask("POST", COMPLETIONS, LONG)[::2]

    threads = [threading.Thread(target=client, args=(i,)) for i in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = [answer for status, answer in found if status == 504]
    expect(late and all(status in (200, 504) for status, _ in found), f"statuses {[status for status, _ in found]}")
    check_error(504, late[0], 504, "took too long")
    expect(server.stop() == 0, "exit status")
    return f"{len(late)} of {len(found)} were told"


def check_drain(start):
    server = start("--drain-timeout", 20)
    # Enough that they do not end before the questions below, on any machine.
    clients = [start_stream(server, **LONG) for _ in range(4)]
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    check_error(*server.ask("POST", COMPLETIONS, {"prompt": "x"})[::2], 503, "shutting down")
    expect(server.ask("GET", "/health")[0] == 503, "/health of a server that shuts down")
    for client in clients:
        rest = b"".join(iter(lambda: client.recv(65536), b""))
        expect(b"data: [DONE]" in rest, f"a stream was cut: {rest[-100:]}")
        client.close()
    server.process.wait(timeout=30)
    expect(server.process.returncode == 0, f"exit status {server.process.returncode}")
    server.process.communicate()
    # A second signal does not wait.
    server = start("--drain-timeout", 60)
    client = start_stream(server, **LONG)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    expect(server.stop() == 0, f"exit status {server.process.returncode}")
    client.close()
    return "streams end, others get 503; a second signal ends all"


def check_log(start):
    server = start(log="--json")
    server.text(COMPLETIONS, prompt="secret", max_tokens=3)
    server.ask("GET", "/%22%7f%00%ff?secret")
    start_stream(server, **LONG).close()
    expected = ('hadal_requests_total{route="/v1/completions",status="200"} 1', 'hadal_requests_total{route="none",status="404"} 1',
                'hadal_requests_total{route="/v1/completions",status="499"} 1', "hadal_time_to_first_token_seconds_count 2")
    for _ in range(100):  # An answer is counted once it has been sent.
        metrics = server.ask("GET", "/metrics")[2].decode()
        missing = [line for line in expected if f"{line}\n" not in metrics]
        if not missing:
            break
        time.sleep(0.02)
    expect(not missing, f"/metrics lacks {missing}")
    server.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in server.process.communicate(timeout=60)[1].splitlines()]
    found = {(line["route"], line["status"]): line for line in lines}
    expect(set(found) == {("/v1/completions", 200), ("/v1/completions", 499), ("none", 404), ("/metrics", 200)}, f"log: {lines}")
    expect(found["/v1/completions", 200]["generated_tokens"] == 3 and "secret" not in str(lines), f"log: {lines}")
    return f"{len(lines)} lines, {metrics.count(chr(10))} lines of metrics"


def check_usage(program, product, hadalc, model, folder):
    def refuse(status, needle, *arguments):
        code, out, err = harness.run([program, *arguments], 60)
        expect(code == status and needle in err and len(err.strip().splitlines()) == 1, f"{arguments}: {code}, {err}")
    refuse(2, "expected a library")
    refuse(2, "--port is '70000', expected a number, 0 .. 65535", product, "--port", "70000")
    refuse(2, "unknown or ambiguous option '--frob'", product, "--frob")
    refuse(1, "cannot open: No such file", folder / "none.so")
    (folder / "text.so").write_text("no library")
    refuse(1, "not an ELF file", folder / "text.so")
    refuse(1, "compile with --emit=lib", hadalc)
    refuse(1, "none.weights", f"{product}.so", "--weights", folder / "none.weights")
    refuse(1, "cannot listen on", product, "--host", "203.0.113.1")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        refuse(1, "Address already in use", product, "--port", str(taken.getsockname()[1]))
    help_text = must_run([program, "--help"], 60)
    lines = help_text.splitlines()
    expect(len(lines) <= 24 and max(map(len, lines)) <= 80 and lines[0].startswith("usage: "), "--help does not fit a screen")
    return "exit status 1 and 2"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--hadal-run", required=True, type=harness.existing_file)
    parser.add_argument("--hadal-serve", required=True, type=harness.existing_file)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--clients", type=int, default=64, help="of the load test (default: 64)")
    parser.add_argument("--bad-requests", type=int, default=2000, help="default: 2000")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder, contextlib.ExitStack() as stack:
        folder = Path(folder)
        product = folder / "model"
        for emit in ("lib", "exe"):
            must_run([args.hadalc, args.model, "-o", product, f"--emit={emit}"], 120)

        def start(*options, **how):
            server = Server(args.hadal_serve, product, *options, **how)
            stack.callback(server.process.kill)
            return server
        server = start("--receive-timeout", 2)
        # Too little memory, and prompts in pieces, for the load test.
        crowded = start("--kv-tokens", 768, "--max-running", 12, "--step-tokens", 48, "--prefix-cache", 8, "--max-connections", 80)
        full = start("--max-running", 1, "--max-queue", 1)
        bare = start("--prefix-cache", 0)
        code = harness.run_checks([
            ("answers", lambda: check_answers(server, args.hadal_run, product)),
            ("options", lambda: check_options(server)),
            ("choices", lambda: check_choices(server)),
            ("refusals", lambda: check_refusals(server)),
            ("bad requests", lambda: check_bad_requests(server, args.bad_requests)),
            ("clients", lambda: check_clients(server)),
            ("load", lambda: check_load(crowded, bare, args.clients)),
            ("prefix", lambda: check_prefix(server, bare)),
            ("full", lambda: check_full(full)),
            ("timeout", lambda: check_timeout(start)),
            ("drain", lambda: check_drain(start)),
            ("log", lambda: check_log(start)),
            ("usage", lambda: check_usage(args.hadal_serve, product, args.hadalc, args.model, folder)),
            ("exit", lambda: f"exit statuses {[expect(s.stop() == 0, 'exit status') or 0 for s in (server, crowded, full, bare)]}"),
        ])
    return code


if __name__ == "__main__":
    sys.exit(main())
