/*
 * ownfile.h - opens files in folders that other users can write to, such as /tmp.
 */
#ifndef SHM_OWNFILE_H
#define SHM_OWNFILE_H

/*
 * Opens the file, or makes it with mode 0600. Refuses with -EPERM a file that another user may have put there: a
 * symlink, a special file, a file of another user, or a file that also has another name. Never blocks. Returns
 * the descriptor, close-on-exec, or -errno.
 */
int sh_own_file_open(const char *path, int flags);

#endif
