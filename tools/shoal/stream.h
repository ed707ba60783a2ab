/*
 * stream.h - copies a task's output to stdout and stderr.
 */
#ifndef TOOLS_SHOAL_STREAM_H
#define TOOLS_SHOAL_STREAM_H

#include "tools/shoal/cli.h"

struct stream {
	int from, to;
	int file; /* descriptor of the file in --output-dir, which has the bytes before moved; -1: none */
	off_t moved;
	off_t at;	/* the next byte to copy */
	off_t reported; /* the position that was last reported to the supervisor */
	off_t end;	/* stop here; -1: continue until the task ends */
	bool closed;	/* the reader of stderr has closed it; bytes are read but not written */
};

/* The two streams of one task, and the connection that identifies this process as their reader. */
struct streams {
	struct stream s[2];
	struct conn *conn;
	int64_t id;
	bool attached;	      /* unread bytes are not dropped while the connection lasts */
	int64_t connected_ms; /* when the connection was last seen to work */
};

/* Takes the descriptors and positions of the reply. */
void streams_begin(struct streams *, struct conn *, json_t *reply, int64_t id, bool attached);
/* Attaches again after a new connection. Returns false if this connection broke as well. */
bool streams_attach(struct streams *);
bool streams_copy(struct streams *); /* copies new bytes for a limited time; true: there may be more */
void streams_rest(struct streams *); /* copies the rest */
/* Returns all of a stream as a JSON string. Bytes that are not UTF-8 become U+FFFD. */
json_t *stream_text(struct streams *, int which);
extern void (*streams_interrupted)(void); /* called when a signal ends a write */

#endif
