"""Many clips: from a list, a folder or a matrix to results, on one machine or on many; nothing that is done is lost."""

from tokenflow.batch.record import Record
from tokenflow.batch.run import edit_many
from tokenflow.batch.sources import read_configs

__all__ = ["Record", "edit_many", "read_configs"]
