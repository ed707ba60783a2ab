/*
 * dl_symbol.h - finds a symbol in one loaded object, without the loader.
 */
#ifndef WORKER_POSIX_DL_SYMBOL_H
#define WORKER_POSIX_DL_SYMBOL_H

#include "core/task/objects.h"

/* The address of what the object defines under that name; version: NULL for the default one. false: nothing. */
bool dl_symbol(const struct object *, const char *name, const char *version, void **address);

#endif
