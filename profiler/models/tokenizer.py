"""A stand-in for a tokenizer whose vocabulary is not here: the real class of transformers, with one id for every word.

Memory depends on how many tokens a text has and to what they are padded, not on which they are. A word, a number, a mark and
a line break are one token each, as those of common English are in the published vocabularies: the template of Qwen-Image has
the 34 tokens that its pipeline counts on. Special tokens have their own ids, as encoders look for the end of a text.
"""

from dataclasses import dataclass
from typing import Any

from profiler.data.section import PositiveInt, Section

PIECES = r"\n+| ?[^\s\w]+| ?\w+|\s+"
# What a pipeline's own code does with a chat: the text of a message is its content, or the pieces of it that are text.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for piece in message.content %}{{ piece.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Tokenizer(Section):
    """A tokenizer as the catalog describes it: `tokenizer` is the published class, `length` its `model_max_length`.

    `before` and `after` are put around each text; `word` is the id of whatever is no special token.
    """

    tokenizer: str
    length: PositiveInt
    tokens: dict[str, int]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    pad: str
    word: int
    source: str = ""


def stand_in(described: Tokenizer) -> Any:
    """The tokenizer, which pads, truncates, decodes and applies a chat's template as those of transformers do."""
    from tokenizers import Regex, models, pre_tokenizers, processors
    from tokenizers import Tokenizer as Fast
    from transformers import PreTrainedTokenizerFast

    fast = Fast(models.WordLevel(described.tokens | {"word": described.word}, unk_token="word"))
    fast.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    around = [*described.before, *described.after]
    if around:
        fast.post_processor = processors.TemplateProcessing(
            single=" ".join([*described.before, "$A", *described.after]),
            special_tokens=[(token, described.tokens[token]) for token in around],
        )
    fast.add_special_tokens([*described.tokens])
    given = {"bos_token": described.before[-1:], "eos_token": described.after[-1:], "pad_token": (described.pad,)}
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        model_max_length=described.length,
        chat_template=CHAT,
        **{name: token[0] for name, token in given.items() if token},
    )
