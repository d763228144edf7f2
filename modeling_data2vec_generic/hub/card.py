"""How a card says that a model is loaded, and the card of a repository, made of the one in the output directory.

The two cards differ in that: the output directory's names folders, that of the repository its id. In between, the text
may have been edited by hand, so nothing but this is changed.
"""

import re

from .layout import ENCODER_DIR, PRETRAINING

# What is said of loading the encoder, and of the full model, stands between such comments, which are not shown.
SECTIONS = ("encoder", "full")

_CODE = re.compile(r"^```python\n.*?^```$", re.MULTILINE | re.DOTALL)
_LOADED = re.compile(r'(\.from_pretrained\(|\bmodel=)"([^"]*)"')


def encoder_section(folder: str, processor: str | None = None, call: str | None = None) -> str:
    """How the plain encoder in `folder`/encoder is loaded.

    Args:
        processor: name of the Auto class of its processor.
        call: the arguments of a call of it, as code.
    """
    place = f"{folder}/{ENCODER_DIR}"
    imported = ", ".join(sorted({"AutoModel", processor or "AutoModel"}))
    lines = [] if processor is None else [f'processor = {processor}.from_pretrained("{place}")']
    lines.append(f'encoder = AutoModel.from_pretrained("{place}")')
    lines += [] if call is None else [f"features = encoder({call}).last_hidden_state"]
    what = "The encoder needs" if processor is None else "The encoder and its processor need"
    code = "\n".join([f"from transformers import {imported}", "", *lines])
    return f"<!-- encoder -->\n{what} nothing but transformers:\n\n```python\n{code}\n```\n<!-- /encoder -->"


def full_section(folder: str) -> str:
    """How the full model in `folder` is loaded."""
    return f"""<!-- full -->
The full model, with teacher and predictor, is for further pre-training. Its code lies beside its weights; read it
before you trust it:

```python
from transformers import AutoModelForPreTraining

model = AutoModelForPreTraining.from_pretrained("{folder}", trust_remote_code=True)
```
<!-- /full -->"""


def hub_card(card: str, model_id: str, content: str | None) -> str:
    """The card for the Hub.

    Args:
        card: Markdown text, in whose Python code models and processors are loaded from the output directory, or from
            `encoder` in it, by `from_pretrained("...")` or `model="..."`.
        model_id: of the repository.
        content: what is pushed of a pre-training run, "encoder", "full" or "both"; None for another model, which is
            at the top of the repository.

    Returns:
        The card without sections on what isn't pushed, and with the places where the repository has the rest.
    """
    for name in SECTIONS:
        if content not in (None, "both", name):
            card = re.sub(rf"<!-- {name} -->\n.*?<!-- /{name} -->\n*", "", card, flags=re.DOTALL)

    def at_the_hub(match: re.Match[str]) -> str:
        call, place = match.groups()
        in_folder = content is not None and place.rpartition("/")[2] != ENCODER_DIR
        return f'{call}"{model_id}"' + (f', subfolder="{PRETRAINING}"' if in_folder else "")

    return _CODE.sub(lambda code: _LOADED.sub(at_the_hub, code[0]), card)


def short_card(name: str, state: str, content: str | None) -> str:
    """A card in the form that `hub_card` takes, for a model of which no run has written one.

    Args:
        name: title of the card.
        state: a sentence about how far training is.
        content: as for `hub_card`.
    """
    loading = "" if content is None else f"\n## How to load\n\n{encoder_section('.')}\n\n{full_section('.')}\n"
    return (
        f"---\nlibrary_name: transformers\ntags:\n- data2vec\n- self-supervised\n---\n\n# {name}\n\n{state}\n{loading}"
    )
