"""Lists the sources that the flags name."""

from dataclasses import replace

from ..arguments import SOURCE_FLAGS, VALIDATION_FLAGS, DataArguments


def sources_of(args: DataArguments) -> list[DataArguments]:
    """The flags of each source of training rows alone.

    Each of the results has one of dataset_name, train_file and train_dir, and no dataset_weights. Without
    dataset_weights there is one source, which may have several files; with them each value is one, in the order of the
    weights.

    Raises:
        ValueError: there is no source, or there are several without weights.
    """
    check_sources(args)
    if args.dataset_weights is None:
        return [args]
    unset = dict.fromkeys((*SOURCE_FLAGS, "dataset_weights"))
    return [
        replace(args, **{**unset, name: [value]})  # type: ignore[arg-type]
        for name in SOURCE_FLAGS
        for value in getattr(args, name) or ()
    ]


def separate_sources(args: DataArguments) -> list[DataArguments]:
    """As `sources_of`, with the flags of validation data at the first source alone, so that they are opened once."""
    first, *others = sources_of(args)
    return [first, *(replace(source, validation_file=None, validation_dir=None) for source in others)]


def is_given(args: DataArguments, flags: tuple[str, ...]) -> bool:
    """Whether one of the flags is given."""
    return any(getattr(args, name) is not None for name in flags)


def source_name(args: DataArguments, flags: tuple[str, ...] = SOURCE_FLAGS) -> str:
    """What the source is called in messages, such as `train_file='a.csv'`, given the flags of one source."""
    return " and ".join(f"{name}={shown(getattr(args, name))}" for name in flags if getattr(args, name) is not None)


def shown(values: list[str]) -> str:
    """The values of a flag in messages: a single one alone."""
    return repr(values[0]) if len(values) == 1 else repr(values)


def check_sources(args: DataArguments) -> None:
    """Raises ValueError if there is no source of training rows, or if there are several without weights."""
    given = [name for name in SOURCE_FLAGS if getattr(args, name) is not None]
    if not given:
        raise ValueError(f"No training data: give one of {', '.join(f'--{name}' for name in SOURCE_FLAGS)}.")
    if args.dataset_weights is None:
        several = len(given) > 1 or any(len(getattr(args, name) or ()) > 1 for name in ("dataset_name", "train_dir"))
        if several:
            raise ValueError(
                f"{source_name(args)} are several sources of training data: give one of them, or mix them with "
                "--dataset_weights, a weight for each."
            )
    names = VALIDATION_FLAGS
    if all(getattr(args, name) is not None for name in names) or len(args.validation_dir or ()) > 1:
        raise ValueError(f"{source_name(args, names)} are several sources of validation data: give one of them.")
    if args.dataset_config_name is not None and len(args.dataset_name or ()) > 1:
        raise ValueError(
            f"dataset_config_name={args.dataset_config_name!r} belongs to one dataset, and dataset_name has "
            f"{len(args.dataset_name or ())}."
        )
