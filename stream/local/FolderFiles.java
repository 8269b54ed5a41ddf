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
 *
 * <p>At the first look, and whenever that changes, the list also has a path that is no file: a word to the reader whether
 * the folder answers. A path is read once, so each word has the time in its name, and a name that no listed file has.
 */
public final class FolderFiles implements FileEnumerator, FileEnumerator.Provider {
    private static final Logger LOG = LoggerFactory.getLogger(FolderFiles.class);

    private static final String AWAY = ".away-";
    private static final String ANSWERS = ".answers-";

    private final String suffix;
    private transient boolean told;
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
            tell(false, folder, splits);
        } catch (Exception error) {
            if (!away) {
                LOG.warn("{} cannot be listed, and is looked at again: {}", folder, error.toString());
            }
            tell(true, folder, splits);
        }
    }

    private void tell(boolean isAway, Path folder, List splits) {
        if (!told || away != isAway) {
            Path word = new Path(folder, (isAway ? AWAY : ANSWERS) + System.currentTimeMillis());
            splits.add(new FileSourceSplit(word.toString(), word, 0L, 0L, 0L, 0L));
        }
        told = true;
        away = isAway;
    }

    /** Whether a path is a word on the folder. */
    static boolean isWord(Path path) {
        return isAway(path) || path.getName().startsWith(ANSWERS);
    }

    /** Whether it is the word that the folder does not answer. */
    static boolean isAway(Path path) {
        return path.getName().startsWith(AWAY);
    }

    private static FileSourceSplit split(FileStatus file) {
        String path = file.getPath().toString();
        long size = file.getLen();
        return new FileSourceSplit(path, file.getPath(), 0L, size, file.getModificationTime(), size);
    }
}
