"""How the benchmark of Dagster's records counts growth."""

from dxy_pipeline_tests.benchmarks.records import Stock, growth


def test_growth_is_what_the_rows_add_however_empty_the_tables_pages_were_before() -> None:
    before = {("evaluations", "event_logs"): Stock(100, 1000.0, overhead=8.0), ("tick logs", ""): Stock(1, 4096.0)}
    after = {
        ("evaluations", "event_logs"): Stock(140, 1400.0, overhead=2.0),
        ("evaluations", "asset_check_executions"): Stock(40, 200.0, overhead=3.0),
        ("tick logs", ""): Stock(2, 8192.0),
    }

    assert growth(before, after, times=10) == {"evaluations": (800, 14_000.0), "tick logs": (10, 40_960.0)}
