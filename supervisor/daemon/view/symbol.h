/*
 * symbol.h - names of functions in modules and in the runtime.
 */
#ifndef SUPERVISOR_DAEMON_VIEW_SYMBOL_H
#define SUPERVISOR_DAEMON_VIEW_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>

struct modinstance;

void sh_symbol_add(const struct modinstance *);
void sh_symbol_remove(const struct modinstance *); /* the instance was unloaded */
/* Writes "module.so(name+0x12)" for an address of code, or the address in hexadecimal and returns false. */
bool sh_symbol(const void *at, char *text, size_t n);
const struct modinstance *sh_symbol_instance(unsigned i); /* the i-th instance; NULL: there are no more */

#endif
