"""The settings of a RocksDB store, and their conversion to the options of the library.

One database has one column family per kind of record (`storage.codec` has their bytes). Point look-ups go to images,
clusters and tombstones, so these have Bloom filters. Embeddings are keyed by place, so they are written in key order,
and compaction hardly ever rewrites them. Vectors do not compress, so they are stored uncompressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    WriteOptions,
)

from core.errors import SettingsError

__all__ = ["FAMILIES", "RocksOptions", "database_options", "family_options", "write_options"]

META = "default"
"""The family that every database has: the state of the store."""

FAMILIES = (
    "images",
    "clusters",
    "edges",
    "embeddings",
    "history",
    "history_of",
    "moments",
    "ended",
    "dead_letters",
    "tombstones",
    "erasures",
    "planned",
    "deltas",
    "operations",
)
"""The other families, named by what they hold."""

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RocksOptions:
    """The settings of RocksDB."""

    cache_mib: int = 128
    """The block cache, shared by all families."""
    write_buffer_mib: int = 16
    """The memtable of one family, before it is flushed to a file."""
    total_write_buffer_mib: int = 64
    max_wal_mib: int = 256
    """The size of the write-ahead logs that forces a flush. It bounds the time of a start after a crash."""
    background_jobs: int = 2
    sync: bool = True
    """Whether a write is synced before it is acknowledged. Without it a power cut loses the last writes: for tests."""

    def __post_init__(self) -> None:
        for name in ("cache_mib", "write_buffer_mib", "total_write_buffer_mib", "max_wal_mib", "background_jobs"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, it is {getattr(self, name)}")


def database_options(settings: RocksOptions, create: bool) -> Options:
    """The options of the whole database.

    Recovery tolerates that a log ends within a record: a write that was never acknowledged. It refuses damage before
    the end, instead of dropping the records after it. `storage.rocks.log_check` comes first.
    """
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    # A store of format 1 has no dead letters, one of format 2 no tombstones, and neither knows history by image. Before
    # format 5 there are no moments, before format 6 neither ended clusters nor what bulk moves need.
    # RocksDB's manifest names the families, so none gets lost alone.
    options.create_missing_column_families(True)
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_db_write_buffer_size(settings.total_write_buffer_mib * MIB)
    options.set_max_total_wal_size(settings.max_wal_mib * MIB)
    options.set_max_background_jobs(settings.background_jobs)
    options.set_max_log_file_size(4 * MIB)
    options.set_keep_log_file_num(4)
    options.set_bytes_per_sync(MIB)
    return options


def family_options(settings: RocksOptions, more: Sequence[str] = ()) -> dict[str, Options]:
    """The options of each family, and of those that only this database has."""
    cache = Cache(settings.cache_mib * MIB)
    return {name: _family(name, settings, cache) for name in (*FAMILIES, *more)}


def _family(name: str, settings: RocksOptions, cache: Cache) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_format_version(5)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    if name in ("images", "clusters", "tombstones", "planned", "deltas"):
        table.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(settings.write_buffer_mib * MIB)
    options.set_level_compaction_dynamic_level_bytes(True)
    compressed = name in ("edges", "history", "history_of", "dead_letters")
    options.set_compression_type(DBCompressionType.lz4() if compressed else DBCompressionType.none())
    return options


def write_options(sync: bool) -> WriteOptions:
    """The options of one write."""
    options = WriteOptions()
    options.sync = sync
    return options
