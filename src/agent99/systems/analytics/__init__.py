"""Live figures from streams of records: windows by event time, exact through kills.

Given:       records of typed sources; pipelines that say key, window and aggregates; a mesh, the
             URL of a database.
Gives:       an agent that stores what it acknowledges, one that keeps the windows, their rows
             while they are open and when they are closed; every record in exactly one count.
May import:  errors clock ids settings envelope wire embedded journal store dispatch registry work
             groups agent agent99; msgspec polars datasketches ddsketch sqlalchemy rich
Never:       acknowledges what is not stored, changes a closed window without saying so, drops a
             record uncounted, lets a sum depend on the order of its parts.
"""

from agent99.systems.analytics._anomalies import Anomaly, Ewma, find_anomalies
from agent99.systems.analytics._changes import Change
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._delta import Counts, WindowRow
from agent99.systems.analytics._demo import run_demo
from agent99.systems.analytics._enrichment import Enrichment, FromCache
from agent99.systems.analytics._figures import Aggregate, Count, Max, Mean, Min, Rate, Sum, Variance
from agent99.systems.analytics._files import read_file, run_file
from agent99.systems.analytics._ingested import (
    Finished,
    Flushed,
    Ingested,
    IngestionOptions,
    IngestionStats,
)
from agent99.systems.analytics._ingestion import DataIngestionAgent
from agent99.systems.analytics._pipeline import Job, Pipeline
from agent99.systems.analytics._processor import AnalyticsProcessor, ProcessorOptions
from agent99.systems.analytics._produced import (
    BatchFailedError,
    ProducerOptions,
    ProducerStatistics,
)
from agent99.systems.analytics._producer import Producer
from agent99.systems.analytics._producer_blocking import BlockingProducer
from agent99.systems.analytics._questions import (
    Comparison,
    JobInfo,
    Jobs,
    JobStats,
    PipelineStats,
    RowsPage,
    RowsQuery,
    SinkStats,
)
from agent99.systems.analytics._results import ClosedWindows, rows_of
from agent99.systems.analytics._run import Run, run
from agent99.systems.analytics._sink import Column, FunctionSink, Refused, Sink, SinkWriter, Target
from agent99.systems.analytics._sink_parquet import ParquetSink
from agent99.systems.analytics._sink_sql import SqlSink
from agent99.systems.analytics._sketches import Distinct, Quantiles, TopK
from agent99.systems.analytics._source import Source
from agent99.systems.analytics._windows import CountOf, Hopping, Session, Sliding, Tumbling, Window
from agent99.systems.analytics._work import LateRecords

__all__ = [
    "Aggregate",
    "Analytics",
    "AnalyticsProcessor",
    "Anomaly",
    "BatchFailedError",
    "BlockingProducer",
    "Change",
    "ClosedWindows",
    "Column",
    "Comparison",
    "Count",
    "CountOf",
    "Counts",
    "DataIngestionAgent",
    "Distinct",
    "Enrichment",
    "Ewma",
    "Finished",
    "Flushed",
    "FromCache",
    "FunctionSink",
    "Hopping",
    "Ingested",
    "IngestionOptions",
    "IngestionStats",
    "Job",
    "JobInfo",
    "JobStats",
    "Jobs",
    "LateRecords",
    "Max",
    "Mean",
    "Min",
    "ParquetSink",
    "Pipeline",
    "PipelineStats",
    "ProcessorOptions",
    "Producer",
    "ProducerOptions",
    "ProducerStatistics",
    "Quantiles",
    "Rate",
    "Refused",
    "RowsPage",
    "RowsQuery",
    "Run",
    "Session",
    "Sink",
    "SinkStats",
    "SinkWriter",
    "Sliding",
    "Source",
    "SqlSink",
    "Sum",
    "Target",
    "TopK",
    "Tumbling",
    "Variance",
    "Window",
    "WindowRow",
    "find_anomalies",
    "read_file",
    "rows_of",
    "run",
    "run_demo",
    "run_file",
]
