"""Asks as the official clients of OpenAI and Anthropic do, all at once, and prints what became of each.

usage: sdk_clients.py BASE_URL [--read-timeout S] [--api-key K] [--max-tokens N] CASE...

A CASE is one of those at the end of this file. Nothing is retried. Prints one line of JSON: an array with one object for
each case, in order: case, ok, text (its length), error (the exception's class), bases (those that it derives from), status,
code, message.
"""

import argparse
import concurrent.futures
import json

import anthropic
import openai

MODEL = "tiny-random"
MESSAGES = [{"role": "user", "content": "name some words"}]


def chat(client, options):
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=options.max_tokens)
    return answer.choices[0].message.content


def chat_stream(client, options):
    text = ""
    request = {"model": MODEL, "messages": MESSAGES, "max_tokens": options.max_tokens}
    with client.chat.completions.create(stream=True, **request) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
    return text


def completion_stream(client, options):
    text = ""
    request = {"model": MODEL, "prompt": "name some words", "max_tokens": options.max_tokens}
    with client.completions.create(stream=True, **request) as stream:
        for chunk in stream:
            text += chunk.choices[0].text
    return text


def responses(client, options):
    return client.responses.create(
        model=MODEL, input="name some words", max_output_tokens=options.max_tokens
    ).output_text


def responses_stream(client, options):
    text = ""
    request = {"model": MODEL, "input": "name some words", "max_output_tokens": options.max_tokens}
    with client.responses.create(stream=True, **request) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
    return text


def embeddings(client, options):
    return str(client.embeddings.create(model=MODEL, input="a word").data[0].embedding)


def messages(client, options):
    answer = client.messages.create(model=MODEL, messages=MESSAGES, max_tokens=options.max_tokens)
    return "".join(block.text for block in answer.content if block.type == "text")


def messages_stream(client, options):
    text = ""
    request = {"model": MODEL, "messages": MESSAGES, "max_tokens": options.max_tokens}
    with client.messages.create(stream=True, **request) as stream:
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                text += event.delta.text
    return text


def messages_helper(client, options):
    with client.messages.stream(model=MODEL, messages=MESSAGES, max_tokens=options.max_tokens) as stream:
        text = "".join(stream.text_stream)
        if stream.get_final_message().stop_reason is None:
            raise ValueError("the message has no end")
    return text


CASES = {
    "chat": (openai, chat),
    "chat-stream": (openai, chat_stream),
    "completion-stream": (openai, completion_stream),
    "responses": (openai, responses),
    "responses-stream": (openai, responses_stream),
    "embeddings": (openai, embeddings),
    "messages": (anthropic, messages),
    "messages-stream": (anthropic, messages_stream),
    "messages-helper": (anthropic, messages_helper),
}


def run(case, options):
    sdk, ask = CASES[case]
    timeout = sdk.Timeout(60, read=options.read_timeout)
    if sdk is openai:
        client = openai.OpenAI(
            base_url=f"{options.base_url}/v1", api_key=options.api_key, timeout=timeout, max_retries=0
        )
    else:
        client = anthropic.Anthropic(
            base_url=options.base_url, api_key=options.api_key, timeout=timeout, max_retries=0
        )
    result = {"case": case, "ok": False, "text": 0, "error": None, "bases": [], "status": None, "code": None}
    try:
        with client:
            result["text"] = len(ask(client, options))
        result["ok"] = result["text"] > 0
    except Exception as caught:  # whatever went wrong belongs to the result
        body = getattr(caught, "body", None)
        error = body.get("error", body) if isinstance(body, dict) else {}
        result["error"] = type(caught).__name__
        result["bases"] = [f"{base.__module__.split('.')[0]}.{base.__name__}" for base in type(caught).__mro__]
        result["status"] = getattr(caught, "status_code", None)
        result["code"] = error.get("code")
        result["message"] = str(caught)
    return result


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("base_url", metavar="BASE_URL", help="without the /v1")
    arguments.add_argument("cases", metavar="CASE", nargs="+", choices=CASES)
    arguments.add_argument("--read-timeout", type=float, default=60, metavar="SECONDS")
    arguments.add_argument("--api-key", default="none")
    arguments.add_argument("--max-tokens", type=int, default=16)
    options = arguments.parse_args()
    with concurrent.futures.ThreadPoolExecutor(len(options.cases)) as pool:
        results = list(pool.map(lambda case: run(case, options), options.cases))
    print(json.dumps(results), flush=True)


if __name__ == "__main__":
    main()
