/*
 * signame.c - names of signals.
 */
#include "shm/signame.h"
#include "shm/segment.h"

#include <signal.h>
#include <string.h>

const char *sh_signal_name(int sig)
{
	static char text[_NSIG][16];
	const char *abbrev = sigabbrev_np(sig);

	if (sig <= 0 || sig >= _NSIG)
		return "?";
	if (text[sig][0])
		return text[sig];
	if (abbrev)
		return sh_format(text[sig], sizeof text[sig], "SIG%s", abbrev);
	if (sig == SIGRTMIN || sig == SIGRTMAX)
		return sig == SIGRTMIN ? "SIGRTMIN" : "SIGRTMAX";
	if (sig > SIGRTMIN && sig < SIGRTMAX)
		return sh_format(text[sig], sizeof text[sig], "SIGRTMIN+%d", sig - SIGRTMIN);
	return sh_format(text[sig], sizeof text[sig], "signal %d", sig);
}
