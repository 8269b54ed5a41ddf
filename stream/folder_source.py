"""The files of a folder as a stream, as they appear: Flink's own file source, with our list and our reader in Java.

Flink's readers give lines without the name of their file, and fail the task for a file that cannot be read. While a
task fails again and again, no checkpoint of the job succeeds. Ours do neither (`stream/local/*Files.java`).

A path is read once. What takes its place later is not seen until the job is submitted again.
"""

from __future__ import annotations

from pyflink.common import Duration, WatermarkStrategy
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSource
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import to_jarray

from operators.rows import KEYED_FILE_TYPE

__all__ = ["LOOK_S", "folder_stream"]

LOOK_S = 5
"""Between two looks at the folder."""


def folder_stream(
    env: StreamExecutionEnvironment, *, uid: str, folder: str, suffix: str, most_bytes: int
) -> DataStream:
    """Rows (0, (name, content, problem)) of all files of a folder, those of now and those to come.

    Some say of the folder itself whether it answers, at first and when that changes (`operators.rows.FILE_ROW_TYPE`).

    Args:
        env: The environment.
        uid: Names the source in snapshots. Another one begins with all files again.
        folder: An absolute path, or a URI that a plugin of Flink knows.
        suffix: Of the names; other files are left out.
        most_bytes: Of a larger file, one byte more than that is read.
    """
    jvm = get_gateway().jvm
    # A path with a scheme is taken as it is: nothing in it is decoded.
    path = jvm.org.apache.flink.core.fs.Path(folder if "://" in folder else f"file://{folder}")
    reader = jvm.neardup.WholeFiles(most_bytes, KEYED_FILE_TYPE.get_java_type_info())
    paths = to_jarray(jvm.org.apache.flink.core.fs.Path, [path])
    builder = jvm.org.apache.flink.connector.file.src.FileSource.forBulkFileFormat(reader, paths)
    builder.setFileEnumerator(jvm.neardup.FolderFiles(suffix))
    builder.monitorContinuously(Duration.of_seconds(LOOK_S)._j_duration)
    source = FileSource(builder.build())
    files = env.from_source(source, WatermarkStrategy.no_watermarks(), "files", KEYED_FILE_TYPE)
    return files.set_parallelism(1).set_max_parallelism(1).uid(uid)
