/*
 * stub.h - makes a shared object that holds nothing but the names of libraries.
 */
#ifndef SUPERVISOR_ZYGOTE_STUB_H
#define SUPERVISOR_ZYGOTE_STUB_H

/*
 * A memfd with it: -1 and errno on failure. rpath and runpath: search paths, or NULL.
 * The loader loads the libraries in this order, and looks for symbols in this order in all that it loads.
 */
int sh_stub_make(const char *const *needed, unsigned n, const char *rpath, const char *runpath);

#endif
