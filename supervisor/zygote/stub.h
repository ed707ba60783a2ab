/*
 * stub.h - makes a shared object that contains only the names of libraries.
 */
#ifndef SUPERVISOR_ZYGOTE_STUB_H
#define SUPERVISOR_ZYGOTE_STUB_H

/*
 * Makes it in a memfd and returns the descriptor, or -1 and errno. rpath and runpath are search paths, or NULL.
 * The loader loads the libraries in this order, and looks up symbols in all of them in this order.
 */
int sh_stub_make(const char *const *needed, unsigned n, const char *rpath, const char *runpath);

#endif
