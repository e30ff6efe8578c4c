"""Write tests/golden/text: small tokenizers, token ids of a corpus, and rendered chats.

Oracles: the `tokenizers` package for ids and decoding, transformers' apply_chat_template for chats (versions in
tools/requirements.txt). Everything is seeded; a second run writes the same bytes.

    python make_tokenizer_goldens.py            # from any folder
"""
import json
import pathlib
import random

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_corpus import CORPUS, TRAINING_TEXT, random_texts

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/text"
QWEN2_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
               r"|\s+(?!\S)|\s+")
LLAMA3_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")

ODD_REGEXES = [r"\p{N}{1,2}", r"[\p{Lu}\p{Lt}]?[\p{Ll}\p{M}]+|\P{L}|\S+?"]


def split(regex):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])


def special(*contents):
    return [AddedToken(c, special=True, normalized=False) for c in contents]


def train(pre_tokenizer, size, normalizer=None, ignore_merges=False):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizer
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator([TRAINING_TEXT], trainer)
    return tok


def qwen2():
    tok = train(split(QWEN2_REGEX), 700, normalizers.NFC())
    tok.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tok.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tok.add_tokens([AddedToken(c, special=False, normalized=False) for c in ("<tool_call>", "</tool_call>")])
    return tok.to_str()


def llama3():
    tok = train(split(LLAMA3_REGEX), 700, ignore_merges=True)
    tok.add_special_tokens(special("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                                   "<|eot_id|>"))
    bos = "<|begin_of_text|>"
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
                                      special_tokens=[(bos, tok.token_to_id(bos))])])
    spec = json.loads(tok.to_str())
    # Words whose merges are gone: only ignore_merges finds them whole.
    unmerged = {a + b for a, b in spec["model"]["merges"][-60:]}
    spec["model"]["merges"] = [m for m in spec["model"]["merges"] if "".join(m) not in unmerged]
    return json.dumps(spec, ensure_ascii=False)


def gpt2():
    tok = train(pre_tokenizers.ByteLevel(add_prefix_space=False), 560)
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.add_special_tokens(special("<|endoftext|>"))
    spec = json.loads(tok.to_str())
    spec["model"]["merges"] = [" ".join(m) for m in spec["model"]["merges"]]
    return json.dumps(spec, ensure_ascii=False)


def odd():
    """Added tokens with every option, a suffix after the text, two splits."""
    digits, words = [pre_tokenizers.Split(Regex(r), behavior="isolated", invert=False) for r in ODD_REGEXES]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok = train(pre_tokenizers.Sequence([digits, words, byte_level]), 400,
                normalizers.Sequence([normalizers.NFC()]))
    tok.add_special_tokens([
        AddedToken("<Norme\u0301>", normalized=True), AddedToken("<Norm\u00e9>", normalized=True),
        AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=False), AddedToken("<norm\u00e9>", normalized=True),
        AddedToken("<end>", normalized=False)])
    tok.add_tokens([AddedToken("<a>", normalized=False), AddedToken("<a>b", normalized=False),
                    AddedToken("plain", normalized=True), AddedToken("two words", normalized=False),
                    AddedToken("\u00e9t\u00e9", normalized=True)])
    end = tok.token_to_id("<end>")
    tok.post_processor = processors.TemplateProcessing(single="<end> $A <end> <end>", special_tokens=[("<end>", end)])
    return tok.to_str()


GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPLITS = {"qwen2": [QWEN2_REGEX], "llama3": [LLAMA3_REGEX], "gpt2": [GPT2_REGEX], "odd": ODD_REGEXES}


def pieces(name, texts):
    """Bytes of each piece that the splits make of each text."""
    steps = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r), behavior="isolated", invert=False)
                                     for r in SPLITS[name]])
    return [[len(piece.encode("utf-8")) for piece, _ in steps.pre_tokenize_str(text)] for text in texts]


def fnv1a(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def golden(name, spec, texts, size):
    tok = Tokenizer.from_str(spec)
    rng = random.Random(f"decode {name}")
    rows = []
    for text in texts:
        rows.append(tok.encode(text, add_special_tokens=False).ids)
    bare = tok.encode("", add_special_tokens=True).ids
    word = tok.encode("word", add_special_tokens=True).ids
    decoded = []
    for _ in range(40):
        ids = [rng.randrange(size) for _ in range(rng.randrange(1, 12))]
        decoded.append({"ids": ids, "all": tok.decode(ids, skip_special_tokens=False),
                        "skip": tok.decode(ids, skip_special_tokens=True)})
    return {"vocab_size": size, "ids": rows, "empty_with_special": bare, "word_with_special": word, "decoded": decoded}


CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
          "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
QWEN2_DEFAULT = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
                 "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
                 "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
QWEN25 = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant") %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# Qwen3's template with what concerns tools left out.
QWEN3 = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and \
message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + \
'\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
QWEN3_THINKING = QWEN3[:QWEN3.rindex("{%- if add_generation")] + ("{%- if add_generation_prompt %}\n"
                                                                 "    {{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}")
LLAMA3 = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
          "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
          "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}

{#- The system text goes behind the dates. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
TEMPLATES = {"chatml": CHATML, "qwen2": QWEN2_DEFAULT, "qwen2.5": QWEN25, "qwen3": QWEN3, "qwen3-thinking": QWEN3_THINKING,
             "llama3": LLAMA3, "llama3.1": LLAMA31}
CHATS = [
    [("user", "Hello")],
    [("system", "Be brief."), ("user", "What's the code?\n")],
    [("user", " a "), ("assistant", "\tb\u2003"), ("user", "\u00a0c\x1c\n")],
    [("system", ""), ("user", ""), ("assistant", ""), ("user", "")],
    [("user", "1"), ("assistant", "<think>\nhm\n\n</think>\n\nold"), ("user", "2")],
    [("user", "1"), ("assistant", "\n<think>\n\nnew\n\n</think>\n\nanswer\n")],
    [("user", "1"), ("assistant", "no thoughts")],
    [("user", "1"), ("assistant", "<think>a</think>b</think>c"), ("assistant", "\n\nlast"), ],
    [("user", "q"), ("assistant", "<think>x</think>call"), ("user", "<tool_response>r</tool_response>"), ("assistant", "z")],
    [("assistant", "<think>t</think>first")],
    [("user", "u"), ("system", "late system"), ("user", "<|im_end|><|eot_id|>")],
]


def chats():
    bos = "<|begin_of_text|>"
    tok = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(llama3()), bos_token=bos)
    rows = []
    for name, template in TEMPLATES.items():
        for chat in CHATS:
            messages = [{"role": r, "content": c} for r, c in chat]
            text = tok.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
            rows.append({"template": name, "messages": messages, "text": text})
    return {"bos_token": bos, "templates": TEMPLATES, "rows": rows}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(path.relative_to(ROOT), path.stat().st_size)


def main():
    raw = CORPUS + random_texts(160)
    texts = [t.decode("utf-8", errors="replace") for _, t in raw]
    write(OUT / "corpus.json", [{"name": n, "hex": t.hex()} for n, t in raw])
    versions = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__}
    for name, spec in [("qwen2", qwen2()), ("llama3", llama3()), ("gpt2", gpt2()), ("odd", odd())]:
        write(OUT / name / "tokenizer.json", json.loads(spec))
        write(OUT / f"{name}.golden.json",
              versions | golden(name, spec, texts, Tokenizer.from_str(spec).get_vocab_size())
              | {"pieces": pieces(name, texts)})
    recall = ROOT / "models/recall-moe/tokenizer.json"
    spec = recall.read_text(encoding="utf-8")
    size = Tokenizer.from_str(spec).get_vocab_size()
    write(OUT / "recall-moe.golden.json",
          versions | {"fnv1a": fnv1a(recall.read_bytes())} | golden("recall-moe", spec, texts, size))
    write(OUT / "chats.json", versions | chats())


if __name__ == "__main__":
    main()
