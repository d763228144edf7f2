"""Bad samples are replaced by the next good one as they are read, and reported with their batch."""

import pickle

import pytest
from torch.utils.data import DataLoader, Subset

from modeling_data2vec_generic.data.quality.reading import (
    ROWS_READ,
    BadRow,
    GoodSamples,
    NothingReadable,
    RefusingCollator,
    ReportingCollator,
    RowsRead,
    Unreadable,
    readable,
)

pytestmark = pytest.mark.fast


class Late:
    """A value that is decoded when it is used, as a JPEG file is."""

    def __init__(self, number, bad):
        self.number, self.bad = number, bad

    def decoded(self):
        if self.bad:
            raise Unreadable("broken behind its header", f"{self.number}.jpg")
        return self.number


class Samples:
    """Samples with the numbers 10, 11, ..., of which those at some places are bad."""

    def __init__(self, size, bad=(), late=()):
        self.size, self.bad, self.late = size, bad, late
        self.read = []

    def __len__(self):
        return self.size

    def __getitem__(self, place):
        self.read.append(place)
        value = Unreadable("broken", f"{place}.png") if place in self.bad else Late(place, place in self.late)
        return {"image": value, "sample_index": 10 + place}


def collate(samples):
    return {"image": [sample["image"].decoded() for sample in samples], "keys": sorted(samples[0])}


def loader(samples, **settings):
    good = GoodSamples(samples, "train")
    return DataLoader(good, collate_fn=ReportingCollator(collate, good), **settings)


def bad_row(place, counted=True, late=False):
    kind, reason = ("jpg", "broken behind its header") if late else ("png", "broken")
    return BadRow("train", 10 + place, reason, f"{place}.{kind}", counted)


@pytest.mark.parametrize("workers", [0, 2])
def test_good_samples__each_bad_one_is_replaced_by_the_next_good_one(workers):
    samples = Samples(8, bad={0, 3, 6, 7}, late={4})
    first, second = loader(samples, batch_size=4, num_workers=workers)
    assert first["image"] == [1, 1, 2, 5]
    assert first["keys"] == ["image", "sample_index"]
    assert first[ROWS_READ] == [
        RowsRead(1, (bad_row(0),)),
        RowsRead(),
        RowsRead(),
        RowsRead(1, (bad_row(3), bad_row(4, counted=False, late=True))),
    ]
    assert second["image"] == [5, 5, 1, 1]  # from the end on to the beginning
    assert second[ROWS_READ] == [
        RowsRead(1, (bad_row(4, late=True),)),
        RowsRead(),
        RowsRead(1, (bad_row(6), bad_row(7, counted=False), bad_row(0, counted=False))),
        RowsRead(1, (bad_row(7), bad_row(0, counted=False))),
    ]


def test_good_samples__nothing_else_is_read():
    samples = Samples(6, bad={2})
    list(loader(samples, batch_size=3))
    assert samples.read == [0, 1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("size", "tried"), [(5, 5), (150, 100)])
def test_good_samples__none_at_all(size, tried, late):
    samples = Samples(size, **{"late" if late else "bad": range(size)})
    with pytest.raises(NothingReadable, match=rf"^{tried} train rows one after the other are bad, the last one "):
        list(loader(samples, batch_size=2))


def test_nothing_readable__reaches_the_main_process_as_one_sentence():
    with pytest.raises(NothingReadable) as caught:
        list(loader(Samples(3, bad=range(3)), batch_size=2, num_workers=1))
    last = "the last one 2.png (broken). Repair them or choose other data."
    assert str(caught.value) == f"3 train rows one after the other are bad, {last}"


def test_good_samples__of_a_subset_are_replaced_within_it():
    good = GoodSamples(Subset(Samples(8, bad={2}), [2, 6, 7]), "validation")
    assert good[0]["sample_index"] == 16
    assert good[0][ROWS_READ].bad == (BadRow("validation", 12, "broken", "2.png"),)


def test_good_samples__of_a_clip_are_reported_with_its_number():
    piece = {"video": Unreadable("frame 1: broken", "a/0.png"), "sample_index": 7, "clip": 3}
    (report,) = GoodSamples([piece, {"video": 1, "sample_index": 8, "clip": 4}], "train")[0][ROWS_READ].bad
    assert report.entry() == {"split": "train", "row": 3, "path": "a/0.png", "reason": "frame 1: broken"}


def test_good_samples__that_are_no_dicts_are_left_as_they_are():
    assert GoodSamples([(1, 2)], "train")[0] == (1, 2)


def test_reporting_collator__other_errors_are_not_bad_rows():
    def fail(samples):
        raise KeyError("no_such_column")

    with pytest.raises(KeyError):
        ReportingCollator(fail, GoodSamples(Samples(1), "train"))([{"image": 1}])


def test_refusing_collator__names_what_cannot_be_read_any_more():
    samples = Samples(4, bad={1}, late={2})
    refusing = RefusingCollator(collate)
    assert refusing([samples[0], samples[3]])["image"] == [0, 3]
    for place, name in ((1, r"1\.png \(broken\)"), (2, r"2\.jpg \(broken behind its header\)")):
        with pytest.raises(NothingReadable, match=f"^A row that was good .* cannot be read any more: {name}"):
            refusing([samples[0], samples[place]])


def test_readable():
    def decode(value, factor):
        if value["path"] == "odd":
            raise Unreadable("odd")
        return factor / value["number"]

    assert readable(decode, {"number": 2, "path": "a.png"}, 6) == 3
    broken, odd = (readable(decode, {"number": 0, "path": path}, 6) for path in ("a.png", "odd"))
    assert (str(broken), broken.path) == ("ZeroDivisionError: division by zero", "a.png")
    assert (str(odd), odd.path) == ("odd", "odd")
    copied = pickle.loads(pickle.dumps(broken))
    assert (copied.reason, copied.path) == (broken.reason, broken.path)
