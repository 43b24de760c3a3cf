"""Many edits at once: from files, folders or a matrix to results, on one machine or a cluster, resumable."""

from tokenflow.batch.record import Record
from tokenflow.batch.run import edit_many
from tokenflow.batch.sources import read_configs

__all__ = ["Record", "edit_many", "read_configs"]
