"""Embedding: from a folder of an encoder and data to a file of vectors; `data2vec embed` and `embed` call it."""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.utils import logging

from .. import cli
from ..cli.recipes import nearest
from ..data.arguments import DataArguments
from ..data.cache_keys import file_state
from ..data.quality.bad_rows import BadRows
from ..data.quality.reading import reason_of
from ..data.quality.screening import REMEDY, first_of
from ..data.sources.listing import source_name
from ..data.sources.mixing import joined
from ..data.streams.windows import lengths_of
from ..data.summary import log_summary, summarized
from ..embedding.arguments import ARGUMENTS, OF_DATA, ROWS_PER_PIECE, EmbeddingArguments
from ..embedding.encoding import Encoding, padding_changes_vectors
from ..embedding.outputs import Embeddings, Joined, read, write
from ..embedding.pieces import PieceId, Workspace
from ..embedding.reading import Reader
from ..embedding.showing import write_neighbours
from ..embedding.sources import Source, flags_of_sources, modality_of, open_sources
from ..errors import as_value_error, require_writable
from ..evaluation.probe import Collate
from ..exporting.exporter import export
from ..masking.sampler import MaskSampler
from ..modalities import modality_class
from ..training.arguments import ModelArguments
from ..training.checkpointing.signals import init_worker
from ..training.encoders import load_encoder

logger = logging.get_logger(__name__)
# Settings that change no vector.
_FREE = (
    *("output", "overwrite", "device", "dataloader_num_workers", "neighbours", "export"),
    *("max_bad_fraction", "preprocessing_num_workers"),
)
_FEWEST = 100  # rows read without which their share of bad ones is not checked before the end


def main(argv: list[str]) -> None:
    """Runs the command `data2vec embed`, given the words after its name: MODEL, DATA and then flags."""
    words = list(takewhile(lambda word: not word.startswith("-"), argv))
    args, data_settings, model_settings = cli.parse(argv[len(words) :], ARGUMENTS)
    if not words:
        raise ValueError(
            "data2vec embed MODEL DATA --output FILE: name the model and then the data, before all flags."
        )
    if args.output is None:
        raise ValueError("Say where the vectors go with --output, a file that ends in .parquet, .npy or .safetensors.")
    cli.log_to_terminal(logging.WARNING, _state(args).is_main_process)
    run(words[0], words[1:], args, data_settings, model_settings)


def embed(
    model: str | Path,
    data: str | Path | Sequence[str | Path] = (),
    *,
    output: str | Path | None = None,
    **settings: Any,
) -> Embeddings:
    """Computes vectors of rows with a frozen encoder, as `data2vec embed MODEL DATA` does.

    Args:
        model: folder or Hub id of an encoder, or of a model that has one.
        data: a folder, files, built-in data or a dataset of the Hub; several in a list.
        output: a file for the vectors, as `--output`. None: they are returned and not kept.
        settings: the flags of the command by name, such as `pooling="cls"`.

    Returns:
        The ids, vectors and labels, which can be unpacked: `ids, vectors, labels = embed(...)`.

    Raises:
        ValueError: a setting is not known or has a value that cannot be used, or so have the model or the data.
    """
    known = [field.name for group in ARGUMENTS for field in fields(group)]
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(f"There is no setting {unknown[0]!r}: did you mean {nearest(unknown[0], known, 1)[0]!r}?")
    words = [str(word) for word in ([data] if isinstance(data, str | Path) else data)]
    with tempfile.TemporaryDirectory() as folder:
        chosen = str(Path(folder, "vectors.parquet") if output is None else output)
        groups = cli.parse(cli.as_flags({**settings, "output": chosen}), ARGUMENTS)
        if output is None and _state(groups[0]).num_processes > 1:
            raise ValueError("Several processes share out the rows and write one file: name it with output.")
        run(str(model), words, *groups)
        return read(Path(chosen))


@summarized()
def run(model: str, data: Sequence[str], args: EmbeddingArguments, data_settings: Any, model_settings: Any) -> None:
    """Computes the vectors and writes the output. With several processes, each must call this."""
    output = Path(str(args.output))
    state = _state(args)
    workspace, rows_per_piece = Workspace(output), args.rows_per_piece or ROWS_PER_PIECE[args.pooling]
    if state.is_main_process:
        _claim(output, workspace, args)
    model_args = ModelArguments(model_name_or_path=model, **vars(model_settings))
    encoder: Any = load_encoder(model_args).to(_device(args, state))  # type: ignore[arg-type]
    flags = flags_of_sources(data, DataArguments(**vars(data_settings)))
    with state.main_process_first():
        modality_name = modality_of(flags, model_args)
        if args.export is not None and modality_name != "text":
            raise ValueError(f"export={args.export!r} is for encoders of text, and these data are {modality_name}.")
        sources = open_sources(flags, modality_name, args.split, rows_per_piece)
    head = joined([source.head() for source in sources], [source_name(source.args) for source in sources], args.split)
    # Pieces are prepared by workers of a loader, as windows of a stream are, which may not start processes.
    in_windows = replace(flags[0], streaming=True, preprocessing_num_workers=None)
    modality = modality_class(modality_name)(model_args, in_windows, head)
    modality.read_whole(encoder)
    modality.fit(encoder)
    # Batches have no masks, but collators need to know how they would be drawn.
    collate = modality.collator(MaskSampler("random", 0.5), 1, 0, "visible").finished_on_device().plain
    encode = Encoding(encoder, modality, args)
    looked_at = modality.prepare_whole(head, "train")
    log_summary()

    if state.is_main_process:
        settings = _settings(model, encoder, sources, args, model_settings)
        if workspace.is_begun():
            workspace.begin({"settings": settings})
            logger.info(
                f"{workspace.folder} holds {workspace.progress().rows} rows already: going on with the others."
            )
        else:
            readers = state.num_processes * max(1, args.dataloader_num_workers)
            apart = _equal_lengths(encode, collate, looked_at)
            workspace.begin({"settings": settings, "shards": readers, "equal_lengths": apart})
    state.wait_for_everyone()
    plan = workspace.plan()
    if data_settings.streaming:
        sources = [source.cut(plan["shards"]) for source in sources]
    reader = Reader(
        sources, modality, collate, args.batch_size, rows_per_piece, plan["equal_lengths"], workspace.progress()
    )
    _embed(reader, encode, workspace, args, data_settings.max_bad_fraction)
    state.wait_for_everyone()
    if state.is_main_process:
        title = f"{model} on {', '.join(data) or ', '.join(map(source_name, flags))}"
        if args.export is not None:
            _export(model, output, args, model_settings.trust_remote_code)
        _finish(reader, workspace, output, args, data_settings.max_bad_fraction, title)
    state.wait_for_everyone()


def _state(args: EmbeddingArguments) -> PartialState:
    """The processes that share out the rows. They wait for the slowest of them, which may take long."""
    return PartialState(cpu=args.device == "cpu", timeout=timedelta(days=1))


def _claim(output: Path, workspace: Workspace, args: EmbeddingArguments) -> None:
    """Makes sure that nothing is lost that is there already."""
    require_writable(output.parent, "The folder of the output", "Name another file with --output.")
    if output.exists() and not args.overwrite:
        raise ValueError(f"output={str(output)!r} exists: name another file, or replace it with --overwrite.")
    if args.overwrite:
        workspace.clear()
    folder = _exported(output)
    if args.export is not None and folder.exists() and not (args.overwrite or workspace.is_begun()):
        raise ValueError(f"{str(folder)!r}, for --export, exists: move it, or replace it with --overwrite.")


def _exported(output: Path) -> Path:
    """The folder that --export writes."""
    return output.with_suffix(".sentence-transformers")


def _export(model: str, output: Path, args: EmbeddingArguments, trust_remote_code: bool) -> None:
    folder = _exported(output)
    if folder.exists():  # of a run that is replaced, or that was stopped after it
        shutil.rmtree(folder)
    export(
        model,
        folder,
        format="sentence-transformers",
        pooling=args.pooling,
        normalize=args.normalize is not None,
        trust_remote_code=trust_remote_code,
    )
    logger.info(f"For SentenceTransformer: {folder}.")


def _device(args: EmbeddingArguments, state: PartialState) -> torch.device:
    """The device of this process.

    Raises:
        ValueError: it does not exist, or several processes are told to use the same one.
    """
    if args.device is None or (args.device == state.device.type and state.num_processes > 1):
        return state.device
    if state.num_processes > 1:
        raise ValueError(
            f"device={args.device!r} would be that of all {state.num_processes} processes: leave it out, and each has "
            "its own."
        )
    with as_value_error(f"device={args.device!r} cannot be used", "Leave it out, or say cpu."):
        return torch.zeros(1, device=args.device).device


def _settings(
    model: str, encoder: PreTrainedModel, sources: Sequence[Source], args: EmbeddingArguments, model_settings: Any
) -> dict[str, Any]:
    """What determines the vectors: settings, the state of the encoder's files, and the rows."""
    own = {name: value for name, value in asdict(args).items() if name not in _FREE}
    files = sorted([*Path(model).glob("*.safetensors"), *Path(model).glob("*config.json")])
    weights = {path.name: file_state(str(path)) for path in files}
    return {
        **own,
        **asdict(model_settings),
        "model": model,
        "weights": weights or getattr(encoder.config, "_commit_hash", None),  # of a model of the Hub
        "data": [
            {name: value for name, value in asdict(source.args).items() if name in OF_DATA and name not in _FREE}
            for source in sources
        ],
        "rows": [source.identity() for source in sources],
    }


def _equal_lengths(encode: Encoding, collate: Collate, samples: Dataset) -> bool:
    """Whether batches may only have samples of the same length, since padding would change their vectors."""
    lengths = lengths_of(samples)
    order = np.argsort(lengths, kind="stable").tolist()
    shortest, longest = (next(_readable_of(samples, places), None) for places in (order, order[::-1]))
    if shortest is None or longest is None or lengths[shortest[0]] == lengths[longest[0]]:
        return True  # there is no padding to look at, and this is never wrong
    apart = padding_changes_vectors(encode, collate, shortest[1], longest[1])
    if apart:
        logger.info(
            f"What this {encode.encoder.config.model_type} encoder makes of a row depends on the padding behind it: "
            "only rows of the same length share a batch."
        )
    return apart


def _readable_of(samples: Dataset, places: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Of the samples at these places those that can be decoded, each with its place."""
    for place in places:
        if reason_of(sample := samples[place]) is None:
            yield place, sample


def _embed(
    reader: Reader, encode: Encoding, workspace: Workspace, args: EmbeddingArguments, max_bad_fraction: float
) -> None:
    """Computes and writes this process's share of the pieces."""
    device = encode.encoder.device
    workers = min(args.dataloader_num_workers, len(reader.shards))
    loader = DataLoader(
        reader,
        batch_size=None,  # the reader gives whole batches
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=partial(init_worker, None),
    )
    known = [source.count for source in reader.sources]
    total = None if None in known else sum(filter(None, known)) // PartialState().num_processes
    places: dict[PieceId, list[int]] = defaultdict(list)
    vectors: dict[PieceId, list[Any]] = defaultdict(list)
    read, bad = 0, list[Mapping[str, Any]]()
    with (
        encode.running(),
        logging.tqdm(
            total=total,
            initial=reader.progress.rows // PartialState().num_processes,
            unit=" rows",
            desc="Embedding",
            disable=not PartialState().is_main_process,
        ) as bar,
    ):
        for batch in loader:
            name = PieceId(*batch.piece)
            if batch.inputs is not None:
                found = encode(batch.inputs)
                places[name] += batch.places
                vectors[name] += [found] if isinstance(found, torch.Tensor) else found
                bar.update(len(batch.places))
                continue
            own = places.pop(name, [])
            workspace.write(
                name, batch.about, _in_memory(vectors.pop(name, []), args), own, batch.read, batch.bad, batch.last
            )
            bar.update(batch.read - len(own))  # rows without a vector, or with several
            read += batch.read
            bad += batch.bad
            if read >= _FEWEST:
                _check_bad(bad, read, max_bad_fraction)


def _in_memory(vectors: list[torch.Tensor], args: EmbeddingArguments) -> NDArray[Any] | list[NDArray[Any]]:
    """The vectors of a piece, of the type of the output: (N, C), or for each sample (length, C)."""
    dtype = np.dtype(args.output_dtype)
    if args.pooling == "tokens":
        return [states.cpu().numpy().astype(dtype) for states in vectors]
    return torch.cat(vectors).cpu().numpy().astype(dtype) if vectors else np.zeros((0, 1), dtype)


def _check_bad(bad: Sequence[Mapping[str, Any]], read: int, max_bad_fraction: float) -> None:
    if len(bad) > max_bad_fraction * read:
        raise ValueError(
            f"{len(bad)} of {read} rows are bad ({first_of(bad)}): more than max_bad_fraction={max_bad_fraction} "
            f"allows. {REMEDY}"
        )


def _finish(
    reader: Reader,
    workspace: Workspace,
    output: Path,
    args: EmbeddingArguments,
    max_bad_fraction: float,
    title: str,
) -> None:
    """Joins the pieces to the output, and lists what has no vector. `title`: of the page of neighbours."""
    pieces = list(workspace.saved())
    found = Joined(pieces, numbered=reader.sources[0].first is not None)
    bad = [*(row for source in reader.sources for row in source.bad), *found.bad()]
    total = sum(piece.read for piece in pieces) + sum(len(source.bad) for source in reader.sources)
    bad_rows = BadRows(output.parent, start_over=True, name=f"{output.stem}.bad_rows.jsonl")
    bad_rows.add(bad)
    _check_bad(bad, total, max_bad_fraction)
    counts = found.counts()
    if args.neighbours is not None:
        page = output.with_suffix(".neighbours.html")
        write_neighbours(found, reader, page, args.neighbours, f"{title}: {counts.rows} rows")
        logger.info(f"Nearest neighbours: {page}.")
    write(found, output)
    workspace.clear()
    if bad:
        logger.warning(
            f"{len(bad)} of {total} rows are bad and have no vector ({first_of(bad)}), see {bad_rows.path}."
        )
    if (blank := total - counts.rows - len(bad)) > 0:
        logger.warning(f"{blank} of {total} rows are blank or too short, and have no vector.")
    if counts.not_finite:
        logger.warning(
            f"{counts.not_finite} vectors hold NaN or infinity. With --dtype or --output_dtype float16, choose "
            "bfloat16 or float32; otherwise the encoder's weights are broken."
        )
    logger.info(f"{counts.vectors} vectors of {counts.width} numbers, of {counts.rows} rows: {output}.")
