/*
 * lists.c - files of the system that are read entry by entry: getpwent, getgrent, getservent and their kin.
 *
 * libc keeps the open file and the place in it in the process. The task's place is a count instead: each call
 * rewinds libc's file, passes over as many entries as the task has had, and reads one into the task's room. The
 * reading runs off the goroutine (outcall.c), because services of nsswitch.conf may block.
 */
#include "core/sync/waitq.h"
#include "shm/kill.h"
#include "worker/posix/hidden.h"
#include "worker/posix/libc.h"

#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <shadow.h>

#define ROOM 4096ul
#define ROOM_MAX (1ul << 20)

struct entry_call {
	const char *rewind, *read, *end; /* names of libc's functions */
	int argument;			 /* of rewind, where it has one */
	uint32_t skip;
	void *entry, *answer;
	char *buf;
	size_t n;
	int r, err;
};

/* On a stack of the process. Every reading function has these arguments, whatever the type of its entry. */
static void read_entry(void *arg)
{
	struct entry_call *c = arg;
	void (*rewind)(int);
	int (*read)(void *, char *, size_t, void **);
	void (*end)(void);

	rewind = LIBC_OWN(c->rewind);
	read = LIBC_OWN(c->read);
	end = LIBC_OWN(c->end);
	rewind(c->argument);
	for (uint32_t i = 0; i <= c->skip; i++) {
		c->answer = NULL;
		c->r = read(c->entry, c->buf, c->n, &c->answer);
		if (c->r)
			break;
	}
	c->err = errno;
	end();
}

/* The next entry of the list, in the task's room; NULL at the end, or with errno. Parks. */
static void *next_list_entry(struct hidden *h, enum hidden_list which, struct entry_call *c, size_t entry_size)
{
	for (size_t n = ROOM;; n *= 2) {
		if (h->list[which].size < n) { /* the old room stays: the caller may still look at it */
			char *room = g_alloc(getg(), entry_size + n);

			if (!room) {
				errno = ENOMEM;
				return NULL;
			}
			h->list[which].room = room;
			h->list[which].size = n;
		}
		c->skip = h->list[which].next;
		c->entry = h->list[which].room;
		c->buf = (char *)c->entry + entry_size;
		c->n = h->list[which].size;
		outcall(read_entry, c);
		if (c->r != ERANGE || n >= ROOM_MAX)
			break;
	}
	if (c->r) {
		errno = c->r == ENOENT ? 0 : c->r;
		return NULL;
	}
	h->list[which].next++;
	KILL_POINT("hidden.list.next");
	return c->answer;
}

static void rewind_list(enum hidden_list which)
{
	struct g *g = on_g();
	struct hidden *h = g ? hidden_of(g) : NULL;

	if (h)
		h->list[which].next = 0;
}

#define LIST(which, type, get, set, end, set_params, set_args) \
	REAL(struct type *, get, (void), ) \
	struct type *get(void) \
	{ \
		struct entry_call c = {#set, #get "_r", #end, 0, 0, NULL, NULL, NULL, 0, 0, 0}; \
		struct g *g = posix_enter(); \
		struct hidden *h = g ? hidden_of(g) : NULL; \
		return h ? next_list_entry(h, which, &c, sizeof(struct type)) : real_##get(); \
	} \
	void set set_params \
	{ \
		void(*libc) set_params; \
		if (on_g()) { \
			rewind_list(which); \
			return; \
		} \
		libc = LIBC_OWN(#set); \
		libc set_args; \
	} \
	void end(void) \
	{ \
		void (*libc)(void); \
		if (on_g()) { \
			rewind_list(which); \
			return; \
		} \
		libc = LIBC_OWN(#end); \
		libc(); \
	}

LIST(LIST_PASSWD, passwd, getpwent, setpwent, endpwent, (void), ())
LIST(LIST_GROUP, group, getgrent, setgrent, endgrent, (void), ())
LIST(LIST_SHADOW, spwd, getspent, setspent, endspent, (void), ())
LIST(LIST_SERVICES, servent, getservent, setservent, endservent, (int stay), (stay))
LIST(LIST_PROTOCOLS, protoent, getprotoent, setprotoent, endprotoent, (int stay), (stay))
