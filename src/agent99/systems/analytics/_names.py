"""What a job's groups and topics are called."""

from __future__ import annotations


def group_of(job: str, version: int) -> str:
    """Return the name of the group that runs a version of a job."""
    return f"{job}-v{version}"


def sink_group_of(job: str, version: int, pipeline: str, sink: str) -> str:
    """Return the name of the group that brings the rows of a pipeline to a sink."""
    return f"{group_of(job, version)}-{pipeline}-{sink}"


def results_topic(job: str, pipeline: str) -> str:
    """Return the topic of the events that tell the rows of a pipeline, of all versions of a job."""
    return f"windows.{job}.{pipeline}"
