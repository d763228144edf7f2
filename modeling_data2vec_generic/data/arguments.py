"""The flags about data. Their names are those of transformers' example scripts, where these have such a flag."""

import math
from dataclasses import dataclass, field

from .kinds_of_data import KINDS

# Each names sources of rows, in the order of their weights.
SOURCE_FLAGS = ("dataset_name", "train_file", "train_dir")
VALIDATION_FLAGS = ("validation_file", "validation_dir")


@dataclass
class DataArguments:
    """Where the data are, which columns are used, and how rows are turned into samples.

    Training data come from one of dataset_name, train_file and train_dir, or with dataset_weights from several
    sources. A validation_file or validation_dir can be combined with any of them, and is used in place of the source's
    own validation split. In Python, each of these five may be a string or a list of strings; it becomes a list.

    Raises:
        ValueError: a flag has a value that cannot be used, or two flags contradict each other.
    """

    # Source
    modality: str | None = field(
        default=None,
        metadata={
            "help": "text, vision, speech, series or video. Default: inferred from the files, or from the columns and "
            "the encoder, if they are unambiguous. Proteins (FASTA files) are text. For folders of frames, video has "
            "to be given."
        },
    )
    dataset_name: list[str] | None = field(
        default=None,
        metadata={
            "help": "A dataset of the Hub, a local folder that datasets.load_dataset or load_from_disk can read, or "
            "built-in data: 'digits' (scikit-learn's 8x8 images) or 'python_docs' (text of Python's own "
            "documentation)."
        },
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "The configuration of the Hub dataset, if it has several."}
    )
    train_file: list[str] | None = field(
        default=None,
        metadata={
            "help": "Training rows: csv, tsv, json, jsonl, txt, parquet or arrow files, tar files (WebDataset), or "
            "sequences in fasta, fa, faa, fas or fna files; all but parquet and arrow also compressed (.gz, .bz2, "
            ".xz, .zst). Several files, patterns such as 'more/*.jsonl', and folders of such files are one source "
            "with the same columns. Only the columns that are used are read. Paths in a table are relative to its "
            "folder."
        },
    )
    validation_file: list[str] | None = field(
        default=None, metadata={"help": "Validation rows: files of any kind that train_file takes."}
    )
    train_dir: list[str] | None = field(
        default=None,
        metadata={
            "help": "Folder of training images or sound, read with all its subfolders. The names of its direct "
            "subfolders are the labels, unless a table names the files and gives labels and further columns: one "
            "called metadata with a column file_name, or any csv, tsv, JSON or parquet file in the folder, or beside "
            "it under its name, with a column file_name, path, image, audio, video or file. Subfolders called train, "
            "validation (val, valid, dev) and test are splits. For video, "
            "each folder with images is a clip, and its images are the frames, in the order of their numbers. A "
            "folder of files that train_file takes is read like these."
        },
    )
    validation_dir: list[str] | None = field(
        default=None, metadata={"help": "Folder of validation images, sound or clips, in the layout of train_dir."}
    )
    dataset_weights: list[float] | None = field(
        default=None,
        metadata={
            "help": "Mixes several sources: each value of dataset_name, then of train_file, then of train_dir is one, "
            "and has the weight at its place here. Each sample comes from a source with a probability in proportion "
            "to its weight. An epoch ends when each row of each source has been used; the rows of sources that are "
            "used up earlier are used again."
        },
    )

    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read, check and prepare the training rows during training, instead of all of them before it. "
            "Needs --max_steps. The first max_eval_samples validation rows (default with --streaming: 2000) are read "
            "before training. Without validation data there is no evaluation."
        },
    )
    shuffle_buffer_size: int = field(
        default=1000,
        metadata={
            "help": "With --streaming: number of rows that each process has in memory at a time. They are read in "
            "several windows, whose samples are shuffled each. A resumed run reads at most this many rows again."
        },
    )

    # Columns
    text_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Column with the text. Default: 'text', or the only column of strings. For token classification, "
            "the column has lists of words, or strings in which each letter is a word. Default there: 'tokens', or "
            "the only such column."
        },
    )
    image_column_name: str | None = field(
        default=None, metadata={"help": "Column with the images. Default: 'image', or the only column of images."}
    )
    audio_column_name: str | None = field(
        default=None, metadata={"help": "Column with the sound. Default: 'audio', or the only column of sound."}
    )
    series_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Column with the time series: lists of T numbers, or of T lists with one number per channel. "
            "Default: 'series', or the only column of such lists."
        },
    )
    video_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Column with the clips, lists of images. Default: 'video', or the only column of such lists."
        },
    )
    label_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Column with the label. Pre-training needs labels for its probe only: classes, as whole numbers "
            "or strings. In fine-tuning a label may also be a number, a list of classes, a tag for each word, a "
            "segmentation mask or a transcript. Default: 'label'; 'ner_tags' for tags, 'text' for transcripts."
        },
    )

    # Number of rows
    max_train_samples: int | None = field(
        default=None,
        metadata={
            "help": "Use at most this many training rows: a fixed random choice, or with --streaming the first ones, "
            "equally many of each file."
        },
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata={
            "help": "Use at most this many validation rows: a fixed random choice, or with --streaming the first ones."
        },
    )
    validation_split_percentage: float = field(
        default=5.0,
        metadata={
            "help": "Percentage of the training rows that are held out for validation if the source has no validation "
            "data: from each class its share, and at least ten rows in all, or a quarter of all rows if there are "
            "fewer than forty. The choice does not depend on the seed. 0: hold nothing out."
        },
    )
    max_bad_fraction: float = field(
        default=0.1,
        metadata={
            "help": "Largest share of bad rows (broken, truncated, empty, too short) among the rows read. They are "
            "skipped; if there are more, the run ends with an error."
        },
    )
    check_data: bool = field(
        default=False,
        metadata={
            "help": "Look through all rows before the first step and leave out bad ones. Default: look at 256 rows of "
            "each split; further bad rows are replaced by the next good one, counted and listed when they are read. "
            "Text, series, and the data of fine-tuning are always checked as a whole."
        },
    )
    preprocessing_num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Number of processes that check and tokenise the data before training. Default: all cores, or one "
            "process for few rows."
        },
    )

    # Text
    max_seq_length: int | None = field(
        default=None,
        metadata={
            "help": "Tokens per sequence, including special tokens. Default: the tokenizer's limit, at most 512."
        },
    )
    line_by_line: bool = field(
        default=False,
        metadata={
            "help": "Make one sequence of each row, cut at max_seq_length and padded. Labels are kept. Default: rows "
            "are joined, with the tokenizer's separator between them, and cut into sequences of exactly "
            "max_seq_length, without labels."
        },
    )
    packing: bool = field(
        default=False,
        metadata={
            "help": "Fill sequences of max_seq_length with whole rows that do not attend to each other. Each has its "
            "own special tokens, positions and share of masked tokens; longer rows are cut. With --streaming, the "
            "rows of a window are packed. Most encoders can do it (docs/backbones.md); for the others the run ends "
            "with an error before the data are prepared."
        },
    )
    train_tokenizer: bool = field(
        default=False,
        metadata={
            "help": "Train a byte-level BPE tokenizer on the training text first; with --streaming, on the first "
            "shuffle_buffer_size rows."
        },
    )
    tokenizer_vocab_size: int = field(
        default=8192,
        metadata={"help": "Size of the trained tokenizer's vocabulary, including special tokens; at least 261."},
    )

    # Vision, video
    crop_scale_min: float = field(
        default=0.2,
        metadata={
            "help": "Training images are cropped to a random share of their area, between this and 1. 1: no crop. All "
            "frames of a clip have the same crop."
        },
    )
    horizontal_flip: bool = field(
        default=True,
        metadata={"help": "Mirror training images with probability 1/2. Turn it off for digits or writing."},
    )

    image_mean: list[float] | None = field(
        default=None,
        metadata={
            "help": "What is subtracted from the values of images: one number, or one for each channel. For images of "
            "8 bits, grey or RGB, values are shares of 255 here, otherwise they are as stored. Default: what is saved "
            "with the image processor; for a new encoder .5, or for images of more bits or other channels the mean of "
            "256 training images, which is saved with the processor."
        },
    )
    image_std: list[float] | None = field(
        default=None,
        metadata={
            "help": "What the values of images are divided by after image_mean was subtracted, given like image_mean. "
            "Default: as for image_mean, with standard deviations in place of means."
        },
    )
    black_level: float | None = field(
        default=None,
        metadata={
            "help": "Pixel value that becomes black where grey or RGB images with more than 8 bits (16-bit, float) "
            "become 8-bit RGB. They do if this or white_level is given or saved with the image processor, or if other "
            "images of the data have 8 bits. Default: the saved one, else the smallest in the training data."
        },
    )
    white_level: float | None = field(
        default=None,
        metadata={
            "help": "Pixel value that becomes white, like black_level; 4095 for 12 bits. Default: the saved one, else "
            "the largest in the training data."
        },
    )

    # Speech
    min_duration_in_seconds: float = field(
        default=0.0,
        metadata={
            "help": "Leave out shorter clips. Clips that are too short for the model are always left out, and so is "
            "silence in pre-training. None of these count as bad."
        },
    )
    max_duration_in_seconds: float = field(
        default=20.0,
        metadata={
            "help": "Of longer clips, a sample is a random part of this length, in seconds, another one in each "
            "epoch; only that part is read. Up to 10,000 clips, with --check_data, and where batches are made by "
            "length, a clip gives as many samples per epoch as parts of this length cover it, otherwise one. "
            "Evaluation reads fixed parts. In audio classification, long clips are cut into pieces of this length; "
            "clips with transcripts are left out."
        },
    )
    array_sampling_rate: int | None = field(
        default=None,
        metadata={
            "help": "Sampling rate, in Hz, of sound that is given as arrays of numbers (.npy, .npz, columns of lists) "
            "and does not state it. Default: that of the feature extractor."
        },
    )

    def __post_init__(self) -> None:
        for name in SOURCE_FLAGS + VALIDATION_FLAGS:
            if isinstance(value := getattr(self, name), str):
                setattr(self, name, [value])
        self._check_weights()
        if self.modality is not None and self.modality not in KINDS:
            raise ValueError(f"modality={self.modality!r} is unknown: choose one of {', '.join(KINDS)}.")
        if self.packing and self.line_by_line:
            raise ValueError("packing puts several rows into a sequence, and line_by_line one. Leave one of them out.")
        if self.shuffle_buffer_size < 1:
            raise ValueError(f"shuffle_buffer_size={self.shuffle_buffer_size} must be 1 row or more.")
        if self.streaming and self.preprocessing_num_workers is not None:
            raise ValueError(
                f"preprocessing_num_workers={self.preprocessing_num_workers} prepares the data before training, and "
                "--streaming during it: use --dataloader_num_workers."
            )
        if self.streaming and self.check_data:
            raise ValueError(
                "check_data looks through all rows before the first step, and --streaming reads them later."
            )
        for name in ("max_train_samples", "max_eval_samples", "preprocessing_num_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be 1 or more; leave it out for no limit.")
        if not 0 <= self.validation_split_percentage < 100:
            raise ValueError(
                f"validation_split_percentage={self.validation_split_percentage} must be at least 0 and below 100."
            )
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction={self.max_bad_fraction} is a share of the rows: it must be in [0, 1].")
        if not 0 < self.crop_scale_min <= 1:
            raise ValueError(f"crop_scale_min={self.crop_scale_min} is a share of the area: it must be in (0, 1].")
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            if values is not None and not (values and all(math.isfinite(value) for value in values)):
                raise ValueError(f"{name}={values} must be finite numbers, one or one for each channel.")
        if self.image_std is not None and min(self.image_std) <= 0:
            raise ValueError(f"image_std={self.image_std} must be above 0, since values are divided by it.")
        if self.black_level is not None and self.white_level is not None and self.black_level >= self.white_level:
            raise ValueError(f"black_level={self.black_level} must be below white_level={self.white_level}.")
        if not 0 <= self.min_duration_in_seconds < self.max_duration_in_seconds:
            raise ValueError(
                f"min_duration_in_seconds={self.min_duration_in_seconds} must be at least 0 and below "
                f"max_duration_in_seconds={self.max_duration_in_seconds}."
            )
        if self.array_sampling_rate is not None and self.array_sampling_rate < 1:
            raise ValueError(f"array_sampling_rate={self.array_sampling_rate} must be 1 Hz or more.")

    def _check_weights(self) -> None:
        weights = self.dataset_weights
        if weights is None:
            return
        given = [value for name in SOURCE_FLAGS for value in getattr(self, name) or ()]
        if len(weights) != len(given):
            raise ValueError(
                f"dataset_weights has {len(weights)} values, and there are {len(given)} sources ({', '.join(given)}): "
                "give one weight for each. A pattern or a folder is one source."
            )
        if not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"dataset_weights={weights} must be positive numbers. Leave out sources without weight.")
