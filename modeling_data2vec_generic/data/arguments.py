"""The data flags of the scripts. Names follow transformers' own example scripts where those have one."""

from dataclasses import dataclass, field

CONTENT_COLUMN = {"vision": "image", "text": "text", "speech": "audio", "series": "series", "video": "video"}
MODALITIES = ("text", "vision", "speech", "series", "video")


@dataclass
class DataArguments:
    """Where the data are, which columns count, and how a row becomes a sample. One source: dataset_name, train_file or
    train_dir. A validation file or folder goes with any of them and takes precedence over the source's own validation
    split."""

    # Source
    modality: str | None = field(
        default=None,
        metadata={
            "help": "text, vision, speech, series or video. Inferred from the files, or from the columns and the "
            "encoder, where these leave no doubt. Proteins (FASTA files) are text; a folder of frames needs to be "
            "called video."
        },
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "A dataset of the Hub or a local folder that datasets.load_dataset understands (e.g. of zip or "
            "WebDataset archives), or built-in data: "
            "'digits' (scikit-learn's 8x8 images) or 'python_docs' (prose of Python's own documentation)."
        },
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "The configuration of the Hub dataset, where it has several."}
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Training rows: a csv, tsv, json, jsonl, txt or parquet file, or sequences as fasta, fa, faa, fas "
            "or fna. Only the columns that are used are read. Paths in it start from its folder."
        },
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "Validation rows: a file of any kind that train_file takes."}
    )
    train_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of training images or sound, read recursively. The names of folders one deep are the "
            "labels of the probe; a metadata.csv or .jsonl with a column file_name gives labels and further columns "
            "instead. Folders called train, validation (val, valid, dev) and test are splits. Of video, each folder "
            "with images is a clip, and its images are the frames, by their numbers."
        },
    )
    validation_dir: str | None = field(
        default=None, metadata={"help": "Folder of validation images, sound or clips, laid out as train_dir."}
    )

    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the training rows one after the other, pass after pass, and check and prepare them on the "
            "way, instead of all before training. Needs --max_steps. Of validation data, the first max_eval_samples "
            "(default here: 2000) are read before; without any there is no evaluation."
        },
    )
    shuffle_buffer_size: int = field(
        default=1000,
        metadata={
            "help": "With --streaming: rows that are in memory at a time, and whose samples are given out in random "
            "order. A resumed run reads at most so many again."
        },
    )

    # Columns
    text_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Column with the text. Default: 'text', or the only column of strings. Of token classification, "
            "with lists of words, or with strings of which each letter is a word: 'tokens', or the only such column."
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
            "help": "Column with the time series: lists of T numbers, or of T lists with a number per channel. "
            "Default: 'series', or the only column of such lists."
        },
    )
    video_column_name: str | None = field(
        default=None,
        metadata={"help": "Column with the clips, lists of images. Default: 'video', or the only column of these."},
    )
    label_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Column with the label: a class (whole numbers or strings), in pre-training for the probe only; "
            "in fine-tuning a number, a list of classes, a tag for each word, a mask or a transcript too. Default: "
            "'label'; of words 'ner_tags', of transcripts 'text'."
        },
    )

    # How much of it
    max_train_samples: int | None = field(
        default=None,
        metadata={
            "help": "Use at most this many training rows: a fixed random choice of them, of a stream the first ones."
        },
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata={
            "help": "Use at most this many validation rows: a fixed random choice of them, of a stream the first ones."
        },
    )
    validation_split_percentage: float = field(
        default=5.0,
        metadata={
            "help": "Percent of the training rows held out for validation where the source has none, evenly over the "
            "classes; at least ten rows, or a quarter of fewer than forty. The same rows whatever the seed. 0: hold "
            "nothing out."
        },
    )
    max_bad_fraction: float = field(
        default=0.1,
        metadata={"help": "Broken, truncated, empty or too short samples are skipped; fail above this share of them."},
    )
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Processes that check, tokenise or decode the data before training."}
    )

    # Text
    max_seq_length: int | None = field(
        default=None,
        metadata={"help": "Tokens per sequence, special ones included. Default: the tokenizer's limit, 512 at most."},
    )
    line_by_line: bool = field(
        default=False,
        metadata={
            "help": "One sequence per row, cut at max_seq_length and padded, labels kept. Default: rows are joined, "
            "the tokenizer's separator between two of them, and cut into sequences of exactly max_seq_length, without "
            "labels."
        },
    )
    train_tokenizer: bool = field(
        default=False,
        metadata={
            "help": "Train a byte-level BPE tokenizer on the training text before anything else, of a stream on its "
            "first shuffle_buffer_size rows."
        },
    )
    tokenizer_vocab_size: int = field(
        default=8192, metadata={"help": "Vocabulary of the trained tokenizer, special tokens included; at least 261."}
    )

    # Vision, video
    crop_scale_min: float = field(
        default=0.2,
        metadata={
            "help": "Training images are cropped to a random share of their area, from this to 1. 1: no crop. All "
            "frames of a clip are cropped alike."
        },
    )
    horizontal_flip: bool = field(
        default=True,
        metadata={"help": "Mirror training images at random, every second one. Not for digits or writing."},
    )

    black_level: float | None = field(
        default=None,
        metadata={
            "help": "Value that becomes black in images of more than 8 bits per pixel (16-bit, float). Default: "
            "what is saved with the image processor, else the smallest in the training data."
        },
    )
    white_level: float | None = field(
        default=None,
        metadata={
            "help": "Value that becomes white in images of more than 8 bits per pixel, e.g. 4095 of 12 bits. Default: "
            "what is saved with the image processor, else the largest in the training data."
        },
    )

    # Speech
    min_duration_in_seconds: float = field(
        default=0.0,
        metadata={"help": "Leave out shorter clips. What is too short for the model is left out in any case."},
    )
    max_duration_in_seconds: float = field(
        default=20.0,
        metadata={
            "help": "Longer clips are cut into consecutive pieces of this length, in seconds; with transcripts, they "
            "are left out."
        },
    )

    def __post_init__(self) -> None:
        if self.modality is not None and self.modality not in MODALITIES:
            raise ValueError(f"modality={self.modality!r} is unknown: choose one of {', '.join(MODALITIES)}.")
        if self.shuffle_buffer_size < 1:
            raise ValueError(f"shuffle_buffer_size={self.shuffle_buffer_size} must be 1 row or more.")
        if self.streaming and self.preprocessing_num_workers is not None:
            raise ValueError(
                f"preprocessing_num_workers={self.preprocessing_num_workers} prepares the data before training, and "
                "--streaming during it: use --dataloader_num_workers."
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
        if self.black_level is not None and self.white_level is not None and self.black_level >= self.white_level:
            raise ValueError(f"black_level={self.black_level} must be below white_level={self.white_level}.")
        if not 0 <= self.min_duration_in_seconds < self.max_duration_in_seconds:
            raise ValueError(
                f"min_duration_in_seconds={self.min_duration_in_seconds} must be at least 0 and below "
                f"max_duration_in_seconds={self.max_duration_in_seconds}."
            )
