"""The benchmark of loading reads real files and prints a whole table."""

from benchmarks.data import COLUMNS, main


def test_main__prints_a_row_for_each_case_and_number_of_workers(capsys):
    main(["--quick", "--case", "images", "series", "--samples", "8", "--batch_size", "2", "--workers", "0", "1"])

    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f"| {' | '.join(COLUMNS)} |")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 :]]
    assert [row[:2] for row in rows] == [["images", "0"], ["images", "1"], ["series", "0"], ["series", "1"]]
    assert {len(row) for row in rows} == {len(COLUMNS)}
    images, series = (float(row[COLUMNS.index("KiB per sample")]) for row in rows[::2])
    assert 147 < images < 150  # 224 x 224 x 3 bytes, a mask and its positions
    assert 14 < series < 17  # 512 x 7 float32, a mask and its positions
    assert all(float(row[2]) > 0 and row[-1].endswith("%") for row in rows)
