/*
 * stream.h - what a task writes, on its way to our stdout and stderr: stream.c.
 */
#ifndef TOOLS_SHOAL_STREAM_H
#define TOOLS_SHOAL_STREAM_H

#include "tools/shoal/cli.h"

struct stream {
	int from, to;
	int file; /* of --output-dir: what is before moved is there; -1 */
	off_t moved;
	off_t at;    /* the next byte to copy */
	off_t said;  /* what the supervisor knows of at */
	off_t end;   /* -1: until the task ends */
	bool closed; /* nobody reads it any more: it is read all the same */
};

/* The two streams of one task, and the connection by which the supervisor knows us as their reader. */
struct streams {
	struct stream s[2];
	struct conn *conn;
	int64_t id;
	bool attached;	      /* nothing that we have not read is dropped while the connection lasts */
	int64_t connected_ms; /* when it last did */
};

/* Takes the descriptors and the places that came with the reply. */
void streams_begin(struct streams *, struct conn *, json_t *reply, int64_t id, bool attached);
/* After a new connection: attached again. False: that one broke too. */
bool streams_attach(struct streams *);
bool streams_copy(struct streams *); /* copies what is new for a moment. True: there may be more */
void streams_rest(struct streams *); /* copies all that is left */
/* All of a stream as a JSON string. What is not UTF-8 becomes U+FFFD. */
json_t *stream_text(struct streams *, int which);
extern void (*streams_interrupted)(void); /* called when a signal ends a write */

#endif
