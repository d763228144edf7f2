"""Several processes share out the rows."""

from modeling_data2vec_generic.runs.embedding import embed

from ..processes import run_two


def embed_as_one_of_two(rank, model, data, output):
    embed(model, data, output=output, device="cpu", rows_per_piece=5)


def test_two_processes__write_one_output_in_the_order_of_the_rows(bert, texts, tmp_path):
    run_two(embed_as_one_of_two, bert, texts, tmp_path / "two.parquet", logs=tmp_path)
    embed(bert, texts, output=tmp_path / "one.parquet", device="cpu", rows_per_piece=5)
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
