package neardup;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.src.FileSourceSplit;
import org.apache.flink.connector.file.src.reader.BulkFormat;
import org.apache.flink.connector.file.src.util.CheckpointedPosition;
import org.apache.flink.connector.file.src.util.SingletonResultIterator;
import org.apache.flink.core.fs.FSDataInputStream;
import org.apache.flink.core.fs.Path;
import org.apache.flink.types.Row;

/**
 * Each file as one element, a row of (0, row of (name, bytes, problem)).
 *
 * <p>No file fails the task. One that cannot be read is tried again for a minute, on the thread that reads files, so
 * that checkpoints go on. Then its element has the problem instead of the bytes.
 *
 * <p>A word on the folder (FolderFiles) is an element without bytes, with a problem if the folder does not answer.
 */
public final class WholeFiles implements BulkFormat {
    private static final int TRIES = 60;
    private static final long PAUSE_MS = 1000L;

    private final int mostBytes;
    private final TypeInformation type;

    /** Of a larger file, one byte more than mostBytes is read. */
    public WholeFiles(int mostBytes, TypeInformation type) {
        this.mostBytes = mostBytes;
        this.type = type;
    }

    public BulkFormat.Reader createReader(Configuration configuration, FileSourceSplit split) {
        return new FileReader(split.path(), mostBytes);
    }

    public BulkFormat.Reader restoreReader(Configuration configuration, FileSourceSplit split) {
        return createReader(configuration, split);
    }

    public boolean isSplittable() {
        return false;
    }

    public TypeInformation getProducedType() {
        return type;
    }

    private static final class FileReader implements BulkFormat.Reader {
        private final Path path;
        private final int mostBytes;
        private int tries = 0;
        private boolean done = false;

        FileReader(Path path, int mostBytes) {
            this.path = path;
            this.mostBytes = mostBytes;
        }

        /** An empty batch: not yet. None: the file is done. */
        public BulkFormat.RecordIterator readBatch() {
            if (done) {
                return null;
            }
            if (FolderFiles.isWord(path)) {
                boolean away = FolderFiles.isAway(path);
                return element(path.getName(), null, away ? "it cannot be listed; the log of the job manager says why" : null);
            }
            byte[] bytes = null;
            String problem = null;
            try {
                bytes = read();
            } catch (Exception error) {
                problem = error.toString();
            }
            tries++;
            if (bytes == null && tries < TRIES) {
                pause();
                return new SingletonResultIterator();
            }
            return element(path.getName(), bytes, problem);
        }

        private BulkFormat.RecordIterator element(String name, byte[] bytes, String problem) {
            done = true;
            SingletonResultIterator batch = new SingletonResultIterator();
            Row file = Row.of(new Object[] {name, bytes, problem});
            batch.set(Row.of(new Object[] {Integer.valueOf(0), file}), CheckpointedPosition.NO_OFFSET, 1L);
            return batch;
        }

        public void close() {}

        private byte[] read() throws IOException {
            ByteArrayOutputStream content = new ByteArrayOutputStream();
            byte[] piece = new byte[65536];
            FSDataInputStream stream = path.getFileSystem().open(path);
            try {
                int count = stream.read(piece);
                while (count > 0 && content.size() <= mostBytes) {
                    content.write(piece, 0, Math.min(count, mostBytes + 1 - content.size()));
                    count = stream.read(piece);
                }
            } finally {
                stream.close();
            }
            return content.toByteArray();
        }

        private static void pause() {
            try {
                Thread.sleep(PAUSE_MS);
            } catch (InterruptedException end) {
                Thread.currentThread().interrupt();
            }
        }
    }
}
