/*
 * library.c - wakes goroutines whose request for a library was answered. See library.h.
 */
#include "core/task/library.h"
#include "core/sync/semtable.h"
#include "shm/kill.h"

#include <string.h>

void sh_library_begin(struct task *t)
{
	struct library_own *o = &library_room(t)->own;

	memset(o, 0, sizeof *o);
	KILL_POINT("library.begun");
}

void sh_library_wake(struct task *t)
{
	struct library_request *r = &library_room(t)->request;
	uint64_t done = atomic_load_explicit(&r->done, memory_order_acquire);

	if (done == atomic_load_explicit(&r->woken, memory_order_relaxed))
		return;
	semtable_wake_in(t, &r->done, true);
	atomic_store_explicit(&r->woken, done, memory_order_relaxed);
	KILL_POINT("library.woken");
}

bool sh_library_is_libcs(const char *soname)
{
	static const char *const family[] = {
		"libc.so.6",	    "libm.so.6",   "libmvec.so.1",	   "libgcc_s.so.1",
		"libpthread.so.0",  "libdl.so.2",  "librt.so.1",	   "libresolv.so.2",
		"libutil.so.1",	    "libanl.so.1", "libBrokenLocale.so.1", "libnsl.so.1",
		"libthread_db.so.1"};

	for (unsigned i = 0; i < sizeof family / sizeof *family; i++)
		if (strcmp(soname, family[i]) == 0)
			return true;
	return strncmp(soname, "ld-linux", 8) == 0;
}
