/*
 * check.h - what must hold, checked in release too.
 *
 * A failed check means that the segment, or our idea of it, is wrong. The process that finds it
 * writes file, line and what did not hold and ends itself with SIGABRT: it is never trusted to
 * go on, and the medic repairs what it held, as after any other death.
 */
#ifndef SHM_CHECK_H
#define SHM_CHECK_H

/* Ends the process. Writes one line to the log descriptor and to the crash record, if there is one. */
_Noreturn void sh_check_failed(const char *file, int line, const char *what);

#define sh_check(cond) \
	do { \
		if (__builtin_expect(!(cond), 0)) \
			sh_check_failed(__FILE__, __LINE__, #cond); \
	} while (0)

/* Called by sh_check_failed before the process ends: tells the story (crash record, log). NULL: stderr only. */
extern void (*sh_check_hook)(const char *file, int line, const char *what);

#endif
