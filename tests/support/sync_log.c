/* Notes each file that was made durable, so that a test can undo what a power cut would have lost.
 *
 * Load it with LD_PRELOAD. After each fsync or fdatasync that succeeds, it appends one line to the file that
 * SYNC_LOG names: inode, generation of the inode, size in bytes before the call. A reused inode has another generation.
 * The log is opened for each line, because daemons close all descriptors that they do not know.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(int fd, const struct stat *before) {
    const char *path = getenv("SYNC_LOG");
    if (path == NULL || !S_ISREG(before->st_mode)) return;
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0) return;
    int generation = 0;
    if (ioctl(fd, FS_IOC_GETVERSION, &generation) != 0) generation = 0;
    char line[96];
    int length = snprintf(line, sizeof line, "%llu %u %lld\n", (unsigned long long)before->st_ino, (unsigned)generation,
                          (long long)before->st_size);
    if (write(log, line, length) != length) abort();
    close(log);
}

static int synced(int fd, const char *name) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before;
    int known = fstat(fd, &before) == 0;
    int result = real(fd);
    int error = errno;
    if (result == 0 && known) note(fd, &before);
    errno = error;
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }
