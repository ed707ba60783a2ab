/*
 * pids.c - numbers of processes come again: a worker is not taken for one that died long ago.
 *
 * In a PID namespace of its own with few numbers (Linux 6.14: pid_max belongs to the namespace; before
 * that it would be everybody's). All workers are killed as soon as they live, so that some end before
 * the supervisor has learned of them.
 */
#include "tests/faults/faults.h"
#include "core/sched/m.h"
#include "shm/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PIDS 450

static bool can_limit(void)
{
	struct utsname u;
	unsigned major = 0, minor = 0;

	if (geteuid() != 0 || uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return false;
	return (major > 6 || (major == 6 && minor >= 14)) && sh("unshare -pf --mount-proc true 2>&1") == 0;
}

void part_pids(void)
{
	if (!can_limit()) {
		note("pids: needs root, unshare and Linux 6.14: left out");
		return;
	}
	if (sh("exec unshare -pf --mount-proc sh -c 'echo %d >/proc/sys/kernel/pid_max && exec build/tests/faults %s few-pids' 2>&1",
	       PIDS, quick ? "--quick" : ""))
		failed("with few process numbers: %.2000s", text);
	else
		row_number("pids", "with few process numbers: two in one seat, or none", 0, 0, "", true);
}

/* Processes of this runtime that are in no seat, without the supervisor, its keeper, zygote and standby. */
static long without_seat(void)
{
	long n = 0;

	for (unsigned i = 0; i < WORKERS_MAX; i++)
		n += atomic_load(&sh_root->seat[i].state) == SEAT_LIVE;
	sh("grep -lsaF -- '%s/s' /proc/[0-9]*/cmdline | while read -r f; do grep -qs ') Z' ${f%%cmdline}stat || echo x; done | wc -l",
	   dir);
	return atol(text) - n;
}

void part_few_pids(void)
{
	unsigned kills = quick ? 4000 : 20000, seat = 0;
	int64_t until = now_ns() + 60000000000;
	long before, is = 0;

	runtime_start("nodelay", "--procs 2 --spare 4");
	nap_us(300000);
	before = without_seat();
	while (kills && now_ns() < until) {
		unsigned next = kill_next(seat);

		kills -= next != seat;
		seat = next;
		nap_us(50);
	}
	row_number("pids", "kills that could not be done in a minute", kills, 0, "", true);
	for (int k = 0; k < 100 && (is = without_seat()) != before; k++)
		nap_us(50000);
	row_number("pids", "processes without a seat, more than before", (double)(is - before), 0, "", true);
	for (int k = 0; k < 20; k++)
		if (sh("timeout 60 build/shoal run build/tests/modules/storm/task.so '<%d>' 2>&1", k))
			failed("a task after that: %.300s", text);
	runtime_stop();
}
