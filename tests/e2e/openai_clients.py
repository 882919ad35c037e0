"""Asks for chat completions as OpenAI's official client does, all at once, and prints what became of each.

usage: openai_clients.py BASE_URL [--count N] [--streaming N] [--max-tokens N] [--timeout S] [--api-key K]

Prints one line of JSON: an array with one object for each request, in order: streaming, ok, text (its length),
chunks, finish_reason, seconds, error.
"""

import argparse
import asyncio
import json
import time

import openai


async def ask(client, index, options):
    streaming = index < options.streaming
    text, chunks, finish_reason, error = "", 0, None, None
    started = time.monotonic()
    request = {
        "model": "tiny-random",
        "messages": [{"role": "user", "content": f"Request {index}: name some words."}],
        "max_tokens": options.max_tokens,
    }
    try:
        if streaming:
            async with await client.chat.completions.create(stream=True, **request) as stream:
                async for chunk in stream:
                    chunks += 1
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        finish_reason = choice.finish_reason or finish_reason
        else:
            answer = await client.chat.completions.create(**request)
            text = answer.choices[0].message.content or ""
            finish_reason = answer.choices[0].finish_reason
    except Exception as caught:  # whatever went wrong belongs to the result
        error = f"{type(caught).__name__}: {caught}"
    return {
        "streaming": streaming,
        "ok": error is None and finish_reason is not None and text != "",
        "text": len(text),
        "chunks": chunks,
        "finish_reason": finish_reason,
        "seconds": round(time.monotonic() - started, 3),
        "error": error,
    }


async def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("base_url", metavar="BASE_URL", help="with the /v1")
    arguments.add_argument("--count", type=int, default=20)
    arguments.add_argument("--streaming", type=int, help="how many of them stream; half by default")
    arguments.add_argument("--max-tokens", type=int, default=64)
    arguments.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    arguments.add_argument("--api-key", default="none")
    options = arguments.parse_args()
    if options.streaming is None:
        options.streaming = options.count // 2
    # Retries would hide what the gateway loses.
    client = openai.AsyncOpenAI(
        base_url=options.base_url, api_key=options.api_key, timeout=options.timeout, max_retries=0
    )
    async with client:
        results = await asyncio.gather(*(ask(client, index, options) for index in range(options.count)))
    print(json.dumps(results), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
