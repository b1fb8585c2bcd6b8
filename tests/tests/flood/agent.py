"""An agent that sends as much output as its prompt asks for: `make test-long`."""

import json
import sys

SIZE = 64 << 20
MANY = 1_000_000
LINE = "%07d " + "x" * (SIZE // MANY - 9) + "\n"


def update(fields):
    params = {"sessionId": "s1", "update": fields}
    return json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": params}) + "\n"


def text(words):
    return {"type": "text", "text": words}


def chunk(words):
    return update({"sessionUpdate": "agent_message_chunk", "content": text(words)})


def many(pattern):
    """The same message a million times, with its number and a line of text."""
    head, tail = pattern.split("HERE")
    for number in range(MANY):
        sys.stdout.write(head + (LINE % number).replace("\n", "\\n") + tail)


def prompted(words):
    if "one line" in words:
        sys.stdout.write(chunk("x" * SIZE))
    elif "a million lines" in words:
        many(chunk("HERE"))
    elif "a million updates" in words:
        call = {"toolCallId": "t1", "status": "in_progress"}
        sys.stdout.write(update({"sessionUpdate": "tool_call", "title": "count", "kind": "execute", **call}))
        content = [{"type": "content", "content": text("HERE")}]
        many(update({"sessionUpdate": "tool_call_update", "content": content, **call}))
    else:
        sys.stdout.write(chunk("still here"))


for request in map(json.loads, sys.stdin):
    method, answer = request.get("method"), {}
    if method == "initialize":
        answer = {"protocolVersion": 1, "agentCapabilities": {}}
    elif method == "session/new":
        answer = {"sessionId": "s1"}
    elif method == "session/prompt":
        prompted(" ".join(part.get("text", "") for part in request["params"]["prompt"]))
        answer = {"stopReason": "end_turn"}
    if "id" in request:
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}), flush=True)
