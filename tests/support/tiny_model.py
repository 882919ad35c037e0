"""Writes a tiny llama model with random weights, so that a real llama.cpp runs without a download.

usage: tiny_model.py OUT.gguf

The model speaks word salad, always the same for the same seed. Every token that is not a whole word, the end
of the text among them, is made so unlikely that an answer always has exactly `max_tokens` words.
"""

import argparse
import os
import sys

import gguf
import numpy as np

SEED = 20
CONTEXT = 32768  # tokens; long enough to keep a slot busy for many seconds
WIDTH = 64  # of an embedding
HEADS = 4
LAYERS = 2
FEED_FORWARD = 128

# The first number of every embedding is BEACON, so the last layer sees it in every state; a row of the output
# matrix that has -SUPPRESS there is a token that is never chosen.
BEACON = 4.0
SUPPRESS = 20.0

SPECIALS = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL)]
SPACE = "\u2581"
WORDS = """
amber anchor apple arrow autumn barley basin beacon birch blossom bracken breeze bridge bronze brook canyon cedar chalk
cinder clover cobalt comet copper coral cradle crystal cypress dawn delta desert dune eagle east echo ember evening
falcon feather fern field flint forest fossil garden glacier granite grove harbour harvest hazel heron hollow horizon
island ivory jasper juniper kettle lagoon lantern larch lark lily linen magnet maple marble marsh meadow mirror mist
morning mountain north oak oasis ocean olive orchard otter paddock pasture pearl pebble pepper pine planet plum pocket
poplar prairie quarry quartz rain raven reed ridge river robin saddle saffron salt sand shadow shore silver sky slate
snow south spark sparrow spring star stone storm summer sunset swallow thistle thunder tide timber trail tulip tundra
valley velvet violet walnut water wave west wheat willow wind window winter wood
""".split()

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def vocabulary():
    """Tokens, their kinds, and which of them may be chosen. A prompt can be any bytes, an answer has words."""
    tokens = list(SPECIALS)
    tokens += [(f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)]
    tokens += [(character, gguf.TokenType.NORMAL) for character in [SPACE, *map(chr, range(32, 127))]]
    first_word = len(tokens)
    tokens += [(SPACE + word, gguf.TokenType.NORMAL) for word in WORDS]
    return tokens, first_word


def write(path):
    random = np.random.default_rng(SEED)
    tokens, first_word = vocabulary()

    def matrix(*shape):
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    embedding = matrix(len(tokens), WIDTH)
    embedding[:, 0] = BEACON
    output = matrix(len(tokens), WIDTH)
    output[:first_word, 0] = -SUPPRESS
    output[first_word:, 0] = 0.0

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)

    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(WIDTH, np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}{part}.weight", matrix(WIDTH, WIDTH))
        for part, shape in (
            ("ffn_gate", (FEED_FORWARD, WIDTH)),
            ("ffn_up", (FEED_FORWARD, WIDTH)),
            ("ffn_down", (WIDTH, FEED_FORWARD)),
        ):
            writer.add_tensor(f"{block}{part}.weight", matrix(*shape))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("out", metavar="OUT.gguf")
    out = arguments.parse_args().out
    # Whoever finds the file finds all of it, however many write it at once.
    partial = f"{out}.{os.getpid()}.partial"
    try:
        write(partial)
        os.replace(partial, out)
    except OSError as error:
        sys.exit(f"tiny_model.py: cannot write {out}: {error.strerror}")


if __name__ == "__main__":
    main()
