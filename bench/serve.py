#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Measures hadal-serve: clients that come one at a time, and many at once.

    bench/make_random_model.py --shape DeepSeek-V2-Lite --layers 4 --out /tmp/lite
    cp models/abyss-tiny/tokenizer*.json /tmp/lite
    build/bin/hadalc /tmp/lite -o /tmp/lite/model --emit=lib --quantize=int8 --cpu=native
    bench/serve.py --hadal-serve build/bin/hadal-serve /tmp/lite/model --clients 1,8

Each client asks for a completion of ids, waits for all of it and leaves; prompts differ. With --mixed, lengths do, too. Prints
tokens/s as the clients see them, the server's mean latencies, and how each count of clients compares with the first of the
same round; with --rounds, then the medians. Of models so small that a token takes microseconds, streams measure this script
and the sockets, since each token is an event: ask for --whole answers there.
"""
import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path


def make_request(i, args):
    random.seed(i)
    scale = random.choice((0.25, 0.5, 1, 1.5)) if args.mixed else 1
    return {"prompt": [random.randrange(10, args.vocab) for _ in range(max(1, int(args.prompt * scale)))],
            "max_tokens": max(2, int(args.tokens * scale)), "temperature": 0, "ignore_eos": True, "stream": not args.whole,
            "logprobs": 0 if args.check else None}


def ask(port, request):
    """Returns the text and the log-probabilities, if it has any."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/completions", json.dumps(request), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status != 200:
        raise SystemExit(f"serve.py: status {response.status}: {answer[:200]}")
    parts = [line[6:] for line in answer.splitlines() if line.startswith(b"data: {")] if request["stream"] else [answer]
    choices = [choice for part in parts for choice in json.loads(part)["choices"]]
    return ("".join(choice["text"] for choice in choices),
            [value for choice in choices for value in (choice["logprobs"] or {"token_logprobs": []})["token_logprobs"]])


def read_latencies(port):
    """Sums and counts of the server's histograms."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {name: float(value) for name, value in re.findall(r"^hadal_(\w+_seconds_(?:sum|count)) (\S+)$", text, re.M)}


def measure(port, clients, args):
    """Answers of all requests, with at most `clients` at a time, and what it took."""
    requests = [make_request(i, args) for i in range(max(args.requests, clients))]
    results, lock, next_one = [None] * len(requests), threading.Lock(), iter(range(len(requests)))

    def client():
        while True:
            with lock:
                i = next(next_one, None)
            if i is None:
                return
            results[i] = ask(port, requests[i])

    before, start = read_latencies(port), time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    latencies = {name: value - before[name] for name, value in read_latencies(port).items()}
    generated = sum(request["max_tokens"] for request in requests)
    result = {"clients": clients, "requests": len(requests), "seconds": round(seconds, 3), "tokens_per_s": round(generated / seconds, 2)}
    for name in ("time_to_first_token", "inter_token"):
        result[f"{name}_s"] = round(latencies[f"{name}_seconds_sum"] / latencies[f"{name}_seconds_count"], 4)
    return results, result


def show(result, args):
    print(json.dumps(result) if args.json else ", ".join(f"{key} {value}" for key, value in result.items()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("product", type=Path, help="what hadalc --emit=lib made")
    parser.add_argument("--hadal-serve", required=True, type=Path)
    parser.add_argument("--clients", default="1,8", help="numbers at once (%(default)s)")
    parser.add_argument("--requests", type=int, default=8, help="for each number of clients, or one a client (%(default)s)")
    parser.add_argument("--prompt", type=int, default=16, help="tokens of a prompt (%(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="to generate (%(default)s)")
    parser.add_argument("--vocab", type=int, default=2000, help="ids of prompts are below (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="of all numbers of clients, in turns (%(default)s)")
    parser.add_argument("--whole", action="store_true", help="ask for whole answers instead of streams")
    parser.add_argument("--expect", type=float, help="exit status 1 if the last number of clients is less than this much faster")
    parser.add_argument("--mixed", action="store_true", help="lengths from a quarter of these to one and a half")
    parser.add_argument("--check", action="store_true", help="compare the probabilities of all tokens, too, which costs time")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    args, options = parser.parse_known_args()
    # The rest goes to the server. No prefix is reused, or the second run would be another.
    server = subprocess.Popen([args.hadal_serve, args.product, "--port", "0", "--quiet", "--prefix-cache", "0", *options],
                              stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+):", server.stdout.readline())[1])
        ask(port, make_request(0, args) | {"max_tokens": 2})  # Reads the weights.
        rounds, base = [], None
        for _ in range(args.rounds):
            rounds.append([])
            for clients in map(int, args.clients.split(",")):
                answers, result = measure(port, clients, args)
                rounds[-1].append(result)
                base = base or answers
                result["speedup"] = round(result["tokens_per_s"] / rounds[-1][0]["tokens_per_s"], 2)
                if args.check:  # Those requests that both had.
                    result["equal"] = all(a == b for a, b in zip(answers, base))
                show(result, args)
        medians = [{key: statistics.median(result[key] for result in results) for key in results[0]} for results in zip(*rounds)]
        if args.rounds > 1:
            for result in medians:
                show({"median_of": args.rounds} | result, args)
        if args.expect and medians[-1]["speedup"] < args.expect:
            sys.exit(f"serve.py: {medians[-1]['speedup']} times as fast, expected {args.expect}")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
