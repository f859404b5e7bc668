"""How the benchmark of Dagster's records counts growth."""

from dxy_pipeline_tests.benchmarks.records import Stock, growth

EVENTS, CHECKS, FILES = "event_logs", "asset_check_executions", "files"


def test_growth_is_what_the_tables_grew_on_disk_shared_out_by_new_rows() -> None:
    before = {
        ("runs", EVENTS): Stock(10, 1000.0, on_disk=80_000.0),
        ("evaluations", EVENTS): Stock(5, 500.0, on_disk=80_000.0),
        ("runs", CHECKS): Stock(1, 100.0, on_disk=50_000.0),
        ("tick logs", FILES): Stock(1, 4096.0, on_disk=4096.0),
    }
    after = {
        ("runs", EVENTS): Stock(40, 4000.0, on_disk=90_000.0),
        ("evaluations", EVENTS): Stock(15, 1500.0, on_disk=90_000.0),
        ("runs", CHECKS): Stock(1, 100.0, on_disk=50_800.0),
        ("evaluations", CHECKS): Stock(4, 400.0, on_disk=50_800.0),
        ("tick logs", FILES): Stock(2, 8192.0, on_disk=8192.0),
    }

    assert growth(before, after, times=10) == {
        "runs": (300, 75_000.0),
        "evaluations": (140, 25_000.0 + 8_000.0),
        "tick logs": (10, 40_960.0),
    }
