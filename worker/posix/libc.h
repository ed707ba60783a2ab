/* libc.h - calls of libc's own functions whose names the worker stands in for. */
#ifndef WORKER_POSIX_LIBC_H
#define WORKER_POSIX_LIBC_H

#include <dlfcn.h>

/*
 * libc's own function of that name, for callers that are not on a goroutine. Each process looks it up: use it after the
 * last park, because the goroutine may be in another process then.
 */
#define LIBC_OWN(name) dlsym(RTLD_NEXT, name)
#define LIBC_FIND(fn, name) ((void)((fn) || ((fn) = LIBC_OWN(name)))) /* fn is static and is found once */
#define LIBC(result, name, ...) \
	static result (*libc)(__VA_ARGS__); \
	LIBC_FIND(libc, name)
/* real_NAME: libc's own. */
#define REAL(result, name, params, ...) \
	static result real_##name params \
	{ \
		static result(*libc) params; \
		LIBC_FIND(libc, #name); \
		return libc(__VA_ARGS__); \
	}

#endif
