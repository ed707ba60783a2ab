/*
 * quarantine.c - refuses a module for a while when its tasks crash again and again.
 *
 * Modules are identified by their content, so a copy of the file is the same module. The times of the last crashes
 * are in the ledger as well, so the next supervisor knows them. Crashes of isolated goroutines do not count.
 */
#include "supervisor/daemon/task/quarantine.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/task/module.h"
#include "supervisor/keeper/ledger.h"
#include "shm/segment.h"

#include <stdlib.h>
#include <string.h>

/* SHOAL_DEBUG=quarantine=SECONDS replaces the minute, for tests; 0 turns the quarantine off. */
static uint64_t quarantine_ns(void)
{
	static uint64_t ns;
	long s = sh_debug_number("quarantine=", -1);

	if (!ns)
		ns = s >= 0 ? (uint64_t)s * 1000000000u + 1 : CRASHES_NS;
	return ns;
}

void sh_module_crashed(struct module *m)
{
	struct ledger_module *l = &sh_ledger->module[m->index];

	l->crashed_ns[m->crashes % CRASHES_MAX] = m->crashed_ns[m->crashes % CRASHES_MAX] = sh_now();
	l->crashes = ++m->crashes;
	if (m->crashes >= CRASHES_MAX && sh_module_quarantine(m))
		sh_log("module %s is in quarantine: %d of its tasks crashed within %d s", m->name, CRASHES_MAX,
		       (int)(quarantine_ns() / 1000000000u));
}

unsigned sh_module_quarantine(const struct module *m)
{
	uint64_t oldest = m->crashed_ns[m->crashes % CRASHES_MAX], age;

	if (m->crashes < CRASHES_MAX)
		return 0;
	age = sh_now() - oldest;
	return age >= quarantine_ns() ? 0 : (unsigned)((quarantine_ns() - age) / 1000000000u) + 1;
}
