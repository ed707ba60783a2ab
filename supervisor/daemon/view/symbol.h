/*
 * symbol.h - names of functions in modules and in the runtime.
 */
#ifndef SUPERVISOR_DAEMON_VIEW_SYMBOL_H
#define SUPERVISOR_DAEMON_VIEW_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>

struct modinstance;

void sh_symbol_add(const struct modinstance *);
void sh_symbol_remove(const struct modinstance *); /* it is unloaded */
/* "name+0x12" or "module.so(name+0x12)" for an address of code. Unknown: false, and text is the number. */
bool sh_symbol(const void *at, char *text, size_t n);
const struct modinstance *sh_symbol_instance(unsigned i); /* i-th, NULL past the last */

#endif
