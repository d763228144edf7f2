"""What is found out about rows of each kind of data by a look at some of them."""

import numpy as np
import PIL.Image
import pytest

from modeling_data2vec_generic.choosing.choice import look_at
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets

from ..tiny import image_folder, protein_file, series_parquet, sound_folder, text_file, video_parquet

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("own_cache")]


def seen(**source):
    args = DataArguments(**source, validation_split_percentage=0)
    modality = infer_modality(args)
    return look_at(load_raw_datasets(args, modality)["train"], modality, args)


def test_images__are_measured_by_their_headers(tmp_path):
    folder = image_folder(tmp_path / "photos")  # 20 x 18, in colour
    found = seen(train_dir=str(folder))
    assert (found.kind, found.rows) == ("vision", 18)
    assert (found.sizes.side, found.sizes.smallest, found.sizes.largest, found.sizes.is_grey) == (18, 18, 20, False)


def test_images__of_all_modes_and_damaged_ones_are_no_obstacle(tmp_path):
    grey = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)
    for number, mode in enumerate(("L", "1", "LA")):
        PIL.Image.fromarray(grey.astype(np.uint8)).convert(mode).save(tmp_path / f"{number}.png")
    PIL.Image.fromarray(grey).save(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = seen(train_dir=str(tmp_path))
    assert (found.sizes.side, found.sizes.is_grey) == (30, True)


def test_images__none_of_which_can_be_read_are_an_error(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="none of the 1 pictures"):
        seen(train_dir=str(tmp_path))


def test_text__is_told_from_residues(tmp_path):
    found = seen(train_file=str(text_file(tmp_path / "prose.csv")))
    assert (found.kind, found.rows, found.has_labels, found.ends) == ("text", 40, True, 0.0)
    (tmp_path / "ends.txt").write_text('One "thing."\nAnd another!\n')
    assert seen(train_file=str(tmp_path / "ends.txt")).ends == 1.0
    found = seen(train_file=str(protein_file(tmp_path / "proteins.fasta")))
    assert (found.kind, min(found.lengths), max(found.lengths)) == ("proteins", 8, 38)


def test_speech__is_measured_in_hours(tmp_path):
    found = seen(train_dir=str(sound_folder(tmp_path / "speech", seconds=1.0)))
    assert found.covering == pytest.approx(1.3, abs=0.01)
    assert found.per_row * 3600 == pytest.approx(1.15, abs=0.05)


def test_series__are_measured_in_windows(tmp_path):
    found = seen(train_file=str(series_parquet(tmp_path / "waves.parquet")))
    assert (found.length, found.channels, found.per_row) == (63, 2, 1.0)
    found = seen(train_file=str(series_parquet(tmp_path / "long.parquet", length=1100, channels=1)))
    assert (found.length, found.per_row) == (512, 2.0)


def test_clips__are_measured_in_frames(tmp_path):
    found = seen(train_file=str(video_parquet(tmp_path / "clips.parquet", frames=5)))
    assert (found.frames, found.usual_frames, found.sizes.side) == (5, 5.0, 18)
