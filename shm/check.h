/*
 * check.h - checks of conditions that always hold, in release builds too.
 *
 * A failed check means that the segment is damaged or that the code is wrong. The process that finds it reports
 * file, line and condition and ends itself with SIGABRT, because continuing could do more damage. The medic
 * repairs what it held, as after any other death.
 */
#ifndef SHM_CHECK_H
#define SHM_CHECK_H

/* Ends the process, after one line in the log and in the crash record, if there is one. */
_Noreturn void sh_check_failed(const char *file, int line, const char *what);

#define sh_check(cond) \
	do { \
		if (__builtin_expect(!(cond), 0)) \
			sh_check_failed(__FILE__, __LINE__, #cond); \
	} while (0)

/* Called by sh_check_failed before the process ends, to write crash record and log. NULL: stderr only. */
extern void (*sh_check_hook)(const char *file, int line, const char *what);

#endif
