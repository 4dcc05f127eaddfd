#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Whatever a model says, what it says under a schema is valid under it, as Python's jsonschema has it.
"""Has hadal-serve and hadal-run follow random JSON schemas, and validates each answer.

    check_json_schema.py --hadalc build/bin/hadalc --hadal-run build/bin/hadal-run \\
        --hadal-serve build/bin/hadal-serve --model models/abyss-tiny
"""
import argparse
import json
import random
import sys
import tempfile
import threading
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from check_serve import CHAT, COMPLETIONS, Server, expect, pieces
from harness import must_refuse, must_run

try:
    import jsonschema
except ImportError:
    print("skipped: Python's jsonschema is not installed; on Debian, it is python3-jsonschema")
    sys.exit(harness.SKIPPED)

NAMES = ["name", "age", "a", "ab", "abc", "größe", "x y", 'q"q', "日本", "kind"]

# Python's `re` matches with them what ECMA-262 has it match.
PATTERNS = ["^[A-Z][a-z]+$", "^[^a-z]{2,5}$", r"^\\(?:a|bc)*\]?$", "fox|^$", r"^[\]\"\n\t-]+$", "(?:x{2}|日本)$", r"^(\+[0-9]{1,3} )?[0-9]{4,7}$"]
FORMATS = ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "json-pointer", "time", "uri", "uuid"]


def make_schema(rng, depth=0):
    """A random schema whose values are short, so that each answer comes to its end."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "types"]
    if depth < 3:
        kinds += ["object", "array", "tuple", "anyOf", "oneOf", "ref"] * 2
    kind = rng.choice(kinds)
    below = lambda: make_schema(rng, depth + 1)
    if kind == "string":
        low = rng.randrange(4)
        if rng.random() < 0.3:
            return {"type": "string", "pattern": rng.choice(PATTERNS), "maxLength": 12}
        if rng.random() < 0.3:
            return {"type": "string", "format": rng.choice(FORMATS), "maxLength": 60}
        return {"type": "string", "minLength": low, "maxLength": low + rng.randrange(12)}
    if kind in ("integer", "number"):
        schema = {"type": kind}
        low = rng.choice([rng.randint(-1000, 1000), round(rng.uniform(-5, 5), rng.randrange(4)), 10**rng.randrange(9)])
        if rng.random() < 0.6:
            schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
        if rng.random() < 0.6:
            # Wide enough for a whole number.
            schema[rng.choice(["maximum", "exclusiveMaximum"])] = low + rng.choice([2, 2.25, 17, 1000])
        return schema
    if kind in ("boolean", "null"):
        return {"type": kind}
    if kind == "enum":
        return {"enum": rng.sample(["red", "re", 'a"b\\', "日本", 1, 1.5, -7, None, True, {"k": [1]}, []], rng.randint(1, 5))}
    if kind == "const":
        return {"const": rng.choice(["fixed", 12, False, [1, "x"]]), "description": "ignored"}
    if kind == "types":
        return {"type": ["null", "integer", "string"], "maxLength": 8, "maximum": 5, "minimum": -20}
    if kind == "array":
        low = rng.randrange(3)
        return {"type": "array", "items": below(), "minItems": low, "maxItems": low + rng.randrange(3)}
    if kind == "tuple":
        count = rng.randint(1, 3)
        return {"type": "array", "prefixItems": [below() for _ in range(count)], "items": False, "minItems": rng.randint(0, count)}
    if kind == "anyOf":
        return {"anyOf": [below() for _ in range(rng.randint(1, 3))]}
    if kind == "oneOf":
        branches = [{"type": "object", "properties": {"kind": {"const": f"k{i}"}, "value": below()}, "required": ["kind"],
                     "additionalProperties": False} for i in range(rng.randint(1, 3))]
        return {"oneOf": branches + [{"type": "null"}]}
    if kind == "ref":
        # A list that ends: it can at any element.
        return {"$ref": "#/$defs/list"}
    names = rng.sample(NAMES, rng.randint(0, 5))
    schema = {"type": "object", "properties": {name: below() for name in names},
              "required": [name for name in names if rng.random() < 0.6], "additionalProperties": False}
    return schema


def make_root(rng):
    schema = make_schema(rng)
    return {"type": "object", "properties": {"v": schema}, "required": ["v"], "additionalProperties": False,
            "$defs": {"list": {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/list"}]}},
                               "required": ["next"], "additionalProperties": False}}}


def validate(schema, text):
    # What is read is what is written: no key comes twice.
    def unique(pairs):
        expect(len({key for key, _ in pairs}) == len(pairs), f"a key comes twice in {text!r}")
        return dict(pairs)
    try:
        value = json.loads(text, object_pairs_hook=unique)
        jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(value)
    except (json.JSONDecodeError, jsonschema.ValidationError) as error:
        raise harness.Failure(f"{text!r} is not valid under {json.dumps(schema)}: {str(error).splitlines()[0]}")
    return value


def response_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def check_random(server, count):
    """Eight clients at a time, at a temperature that makes the model say anything."""
    ended, failures, lock = [0], [], threading.Lock()

    def client(first):
        for i in range(first, count, 8):
            rng = random.Random(i)
            schema = make_root(rng)
            try:
                jsonschema.Draft202012Validator.check_schema(schema)
                answer = server.post(CHAT, messages=[{"role": "user", "content": "Tell me of a fox."}], temperature=rng.choice([0, 1, 2]),
                                     seed=i, max_tokens=900, response_format=response_format(schema))["choices"][0]
                # A text that ran into the limit is cut: `next` may go on for long.
                if answer["finish_reason"] == "stop":
                    validate(schema, answer["message"]["content"])
                    with lock:
                        ended[0] += 1
            except Exception as error:  # Of any thread, for the check.
                with lock:
                    failures.append(f"schema {i}: {error}")

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not failures, failures[:1])
    expect(ended[0] > 0.9 * count, f"{ended[0]} of {count} answers came to their end")
    return f"{ended[0]} answers valid, {count - ended[0]} cut at the limit"


def check_forms(server):
    """The other ways to ask, and what goes with them."""
    person = {"type": "object", "properties": {"zoo": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
              "required": ["zoo", "age"], "additionalProperties": False}
    body = dict(messages=[{"role": "user", "content": "Who?"}], temperature=0, response_format=response_format(person))
    answer = server.post(CHAT, **body)["choices"][0]
    value = validate(person, answer["message"]["content"])
    expect(list(value) == ["zoo", "age"] and answer["finish_reason"] == "stop", f"members in another order: {answer}")
    expect(pieces(server.stream(CHAT, **body)) == answer["message"]["content"], "the stream has another text")
    # Alone or among others, a completion or a chat, with log-probabilities of the model's own.
    text = server.post(COMPLETIONS, prompt="Once", max_tokens=80, response_format=response_format(person), seed=3, logprobs=1, ignore_eos=True)
    validate(person, text["choices"][0]["text"])
    value = server.text(CHAT, messages=body["messages"], seed=5, max_tokens=2000, response_format={"type": "json_object"}, stop=["}"])
    expect(value.startswith("{"), f"json_object: {value[:80]!r}")
    expect(server.text(CHAT, messages=body["messages"], temperature=0, max_tokens=5, response_format={"type": "text"}), "text")
    # Another order of the whole body, and keys that look like others.
    odd = {"type": "object", "properties": {'schema"': {"const": "schema"}, "b\\": {"const": 1}, "a": {"const": {"schema": "}"}}},
           "required": ["a", "b\\", 'schema"']}
    raw = ('{"response_format" : { "json_schema":{"name":"schema","schema":{"type":"null"} ,"schema": ' + json.dumps(odd)
           + ', "description":"\\"schema\\": {"}, "type" :"json_schema"},"messages":[{"role":"user","content":"x"}]}')
    status, _, found = server.ask("POST", CHAT, raw)
    expect(status == 200, found[:300])
    content = json.loads(found)["choices"][0]["message"]["content"]
    expect(list(validate(odd, content)) == ['schema"', "b\\", "a"], content)
    return "chat, completion, stream, json_object"


def check_hostile(server):
    """Schemas that are meant to be slow end soon, or are refused."""
    wide = {"anyOf": [{"type": "string", "minLength": i, "maxLength": 40 + i} for i in range(100)]}
    nested = {"anyOf": [wide, {"type": "array", "items": {"anyOf": [wide, {"type": "array", "items": wide}]}}]}
    chain = {"$ref": "#/$defs/a0", "$defs": {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{(i + 1) % 500}"}, {"type": "null"}]} for i in range(500)}}
    for schema in (nested, chain, {"enum": [f"{i:x}" * 5 for i in range(1000)]},
                   {"type": "object", "properties": {f"{i}": {} for i in range(999)}}):
        status, _, answer = server.ask("POST", CHAT, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 20, "seed": 1,
                                                      "response_format": response_format(schema)})
        expect(status == 200, f"{answer[:300]}")
    return "4 schemas"


def check_run(hadalc, hadal_run, model, folder):
    product, schema = folder / "exe", folder / "schema.json"
    must_run([hadalc, model, "-o", product], 120)
    wanted = {"type": "object", "properties": {"title": {"type": "string", "maxLength": 30}, "pages": {"type": "integer", "minimum": 1, "maximum": 500}},
              "required": ["title", "pages"]}
    schema.write_text(json.dumps(wanted))
    validate(wanted, must_run([product, "--chat", "A book?", "--json-schema", schema], 60))
    answer = json.loads(must_run([hadal_run, product, "--prompt", "Once", "--json-schema", schema, "--json", "--temperature", "1"], 60))
    validate(wanted, answer["text"])
    expect(answer["stop"] == "eos", f"stop is {answer['stop']}")
    schema.write_text('{"type": "object", "propertys": {}}')
    line = must_refuse([product, "--chat", "x", "--json-schema", schema], 60)
    expect("schema.json: at '/': the keyword 'propertys' is not supported" in line, line)
    expect("cannot read" in must_refuse([product, "--chat", "x", "--json-schema", folder / "none"], 60), "a file that is not there")
    return "an answer of each program"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--hadal-run", required=True, type=harness.existing_file)
    parser.add_argument("--hadal-serve", required=True, type=harness.existing_file)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--schemas", type=int, default=120, help="random ones (default: 120)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        folder = Path(folder)
        must_run([args.hadalc, args.model, "-o", folder / "model", "--emit=lib"], 120)
        server = Server(args.hadal_serve, folder / "model")
        try:
            return harness.run_checks([
                ("random schemas", lambda: check_random(server, args.schemas)),
                ("forms", lambda: check_forms(server)),
                ("hostile schemas", lambda: check_hostile(server)),
                ("hadal-run", lambda: check_run(args.hadalc, args.hadal_run, args.model, folder)),
                ("exit", lambda: expect(server.stop() == 0, "exit status") or "0"),
            ])
        finally:
            server.process.kill()


if __name__ == "__main__":
    sys.exit(main())
