package neardup;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.flink.connector.file.src.FileSourceSplit;
import org.apache.flink.connector.file.src.enumerate.FileEnumerator;
import org.apache.flink.core.fs.FileStatus;
import org.apache.flink.core.fs.Path;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lists the files of folders whose names have a suffix, without folders below them and hidden files.
 *
 * <p>A folder that does not answer counts as empty until it does. The log says so once, where Flink's own lists would say
 * so at each look.
 */
public final class FolderFiles implements FileEnumerator, FileEnumerator.Provider {
    private static final Logger LOG = LoggerFactory.getLogger(FolderFiles.class);

    private final String suffix;
    private transient boolean away;

    public FolderFiles(String suffix) {
        this.suffix = suffix;
    }

    public FileEnumerator create() {
        return new FolderFiles(suffix);
    }

    public Collection enumerateSplits(Path[] folders, int least) {
        List splits = new ArrayList();
        for (int i = 0; i < folders.length; i++) {
            list(folders[i], splits);
        }
        return splits;
    }

    private void list(Path folder, List splits) {
        try {
            FileStatus[] found = folder.getFileSystem().listStatus(folder);
            if (found == null) {
                throw new java.io.FileNotFoundException("there is no such folder");
            }
            for (int i = 0; i < found.length; i++) {
                String name = found[i].getPath().getName();
                if (!found[i].isDir() && name.endsWith(suffix) && !name.startsWith(".")) {
                    splits.add(split(found[i]));
                }
            }
            if (away) {
                LOG.info("{} answers again", folder);
            }
            away = false;
        } catch (Exception error) {
            if (!away) {
                LOG.warn("{} cannot be listed, and is looked at again: {}", folder, error.toString());
            }
            away = true;
        }
    }

    private static FileSourceSplit split(FileStatus file) {
        String path = file.getPath().toString();
        long size = file.getLen();
        return new FileSourceSplit(path, file.getPath(), 0L, size, file.getModificationTime(), size);
    }
}
