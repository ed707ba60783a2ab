/*
 * variables.h - makes the variables of what was loaded shared, and keeps them as they were.
 */
#ifndef SUPERVISOR_ZYGOTE_VARIABLES_H
#define SUPERVISOR_ZYGOTE_VARIABLES_H

#include "core/task/objects.h"

/* What one load has made. */
struct variables {
	struct variables *next;
	char *pristine; /* of all ranges, one after the other */
	unsigned char *zero;
	size_t size;
};

/*
 * Maps one shared file over all ranges of the objects, with the same content, and fills in where their
 * pristine content is. NULL and errno: some of it may have been done, all of it is gone with the objects.
 */
struct variables *sh_variables_share(struct object *, unsigned n);
void sh_variables_free(struct variables *);

#endif
