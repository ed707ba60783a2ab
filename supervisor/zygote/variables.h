/*
 * variables.h - makes the variables of loaded objects shared memory, and keeps their initial content.
 */
#ifndef SUPERVISOR_ZYGOTE_VARIABLES_H
#define SUPERVISOR_ZYGOTE_VARIABLES_H

#include "core/task/objects.h"

/* The variables of one load. */
struct variables {
	struct variables *next;
	char *pristine;	     /* initial content of all ranges, one after the other */
	unsigned char *zero; /* for each page: 1 if it is all zeros */
	size_t size;
};

/*
 * Maps one shared file with the same content over all ranges of the objects, and stores in each range where its
 * initial content is. Returns NULL and errno on failure; then the caller must unload the objects, because some
 * ranges may be mapped.
 */
struct variables *sh_variables_share(struct object *, unsigned n);
void sh_variables_free(struct variables *);

#endif
