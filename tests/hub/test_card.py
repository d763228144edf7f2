import pytest

from modeling_data2vec_generic.hub.card import encoder_section, full_section, hub_card, short_card

pytestmark = pytest.mark.fast

CARD = f"""---
license: mit
---

See [the folder](out/encoder) and `from_pretrained("out")`.

{encoder_section("out", "AutoTokenizer", "**processor(texts)")}

{full_section("out")}

My own words.
"""


def code(card: str) -> str:
    """The Python code of a card, which must at least compile."""
    blocks = "\n".join(block.partition("```")[0] for block in card.split("```python\n")[1:])
    compile(blocks, "card", "exec")
    return blocks


def test_hub_card__loads_both_models_by_id_and_keeps_the_rest():
    card = hub_card(CARD, "me/name", "both")
    assert code(card).splitlines() == [
        "from transformers import AutoModel, AutoTokenizer",
        "",
        'processor = AutoTokenizer.from_pretrained("me/name")',
        'encoder = AutoModel.from_pretrained("me/name")',
        "features = encoder(**processor(texts)).last_hidden_state",
        "",
        "from transformers import AutoModelForPreTraining",
        "",
        'model = AutoModelForPreTraining.from_pretrained("me/name", subfolder="pretraining", trust_remote_code=True)',
    ]
    for kept in ("license: mit", "My own words.", 'See [the folder](out/encoder) and `from_pretrained("out")`.'):
        assert kept in card


@pytest.mark.parametrize(("content", "there", "gone"), [("encoder", "encoder", "model"), ("full", "model", "encoder")])
def test_hub_card__is_silent_on_what_is_not_pushed(content, there, gone):
    card = hub_card(CARD, "me/name", content)
    assert f"\n{there} = " in code(card)
    assert f"\n{gone} = " not in code(card)
    assert f"<!-- {'full' if content == 'encoder' else 'encoder'} -->" not in card
    assert "My own words." in card


def test_hub_card__of_a_model_at_the_top():
    text = '```python\npipe = pipeline("image-classification", model="out/finetuned")\n```'
    assert 'model="me/name")' in hub_card(text, "me/name", None)


def test_short_card__says_how_far_training_is_and_how_to_load():
    card = short_card("name", "Training in progress: step 3 of 9.", "both")
    assert "# name\n\nTraining in progress: step 3 of 9.\n" in card
    assert 'encoder = AutoModel.from_pretrained("./encoder")' in code(card)
    assert "python" not in short_card("name", "Trained.", None)
