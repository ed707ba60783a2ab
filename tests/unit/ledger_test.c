/*
 * ledger_test.c - what survives a supervisor: supervisor/keeper/ledger.c.
 */
#include "supervisor/keeper/ledger.h"
#include "core/task/objects.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fd;

static void create(void)
{
	fd = sh_ledger_create();
	cr_assert_geq(fd, 0);
}

TestSuite(ledger, .init = create, .timeout = 60);

Test(ledger, the_next_supervisor_reads_what_the_first_has_written)
{
	struct ledger *first = sh_ledger;

	first->nmodules = 3;
	atomic_store(&first->job[TASK_SLOTS - 1].id, 77);
	cr_assert_eq(sh_ledger_attach(fd), 0);
	cr_expect_neq(sh_ledger, first);
	cr_expect_eq(sh_ledger->nmodules, 3);
	cr_expect_eq(atomic_load(&sh_ledger->job[TASK_SLOTS - 1].id), 77);
}

Test(ledger, a_fresh_one_holds_nothing)
{
	uint32_t i = 0;

	cr_expect_eq(sh_ledger->nmodules, 0);
	cr_expect_eq(atomic_load(&sh_ledger->module[0].used), 0);
	cr_expect_eq(atomic_load(&sh_ledger->job[0].id), 0);
	cr_expect_null(sh_ledger_object_next(&i));
	cr_expect_null(sh_ledger_object_at(4096));
}

Test(ledger, another_build_does_not_adopt_it)
{
	sh_ledger->layout++;
	cr_expect_eq(sh_ledger_attach(fd), -EINVAL);
	sh_ledger->layout--;
	cr_expect_eq(sh_ledger_attach(fd), 0);
	sh_ledger->magic = 0;
	cr_expect_eq(sh_ledger_attach(fd), -EINVAL);
	cr_expect_eq(sh_ledger_attach(-1), -EBADF);
}

/* ---- libraries of instances ---- */

/* A list of n libraries; their code lies at base, base + 4096 and so on. The first object is the module itself. */
static struct objects libraries(unsigned n, uintptr_t base)
{
	static struct object object[8];
	static char path[8][32];

	for (unsigned i = 0; i <= n; i++) {
		snprintf(path[i], sizeof path[i], "/lib/%lx", (unsigned long)(base + i * 4096));
		object[i] = (struct object){.path = path[i], .base = base + i * 4096};
		object[i].text = object[i].base;
		object[i].text_end = object[i].base + 4096;
	}
	return (struct objects){.object = object, .n = n + 1};
}

static unsigned count_objects(void)
{
	unsigned n = 0;

	for (uint32_t i = 0; sh_ledger_object_next(&i);)
		n++;
	return n;
}

Test(ledger, an_address_is_found_in_the_library_whose_code_it_is)
{
	struct objects s = libraries(2, 0x10000);

	sh_ledger_objects_put(5, &s);
	cr_expect_eq(count_objects(), 2, "the module is not listed");
	cr_expect_null(sh_ledger_object_at(0x10fff));
	cr_expect_str_eq(sh_ledger_object_at(0x11000)->path, "/lib/11000");
	cr_expect_str_eq(sh_ledger_object_at(0x11fff)->path, "/lib/11000");
	cr_expect_str_eq(sh_ledger_object_at(0x12000)->path, "/lib/12000");
	cr_expect_null(sh_ledger_object_at(0x13000));
}

Test(ledger, a_new_list_replaces_only_that_of_its_instance)
{
	struct objects s = libraries(3, 0x10000);

	sh_ledger_objects_put(0, &s);
	s = libraries(2, 0x80000);
	sh_ledger_objects_put(1, &s);
	cr_expect_eq(count_objects(), 5);
	s = libraries(1, 0x40000);
	sh_ledger_objects_put(0, &s);
	cr_expect_eq(count_objects(), 3);
	cr_expect_null(sh_ledger_object_at(0x11000));
	cr_expect_not_null(sh_ledger_object_at(0x41000));
	cr_expect_not_null(sh_ledger_object_at(0x81000));
	sh_ledger_objects_put(1, NULL);
	cr_expect_null(sh_ledger_object_at(0x81000));
	cr_expect_eq(count_objects(), 1);
	s = libraries(2, 0x90000);
	sh_ledger_objects_put(2, &s);
	cr_expect_eq(atomic_load(&sh_ledger->nobjects), 5, "free entries are used again");
}

Test(ledger, a_path_that_is_too_long_has_no_name)
{
	struct objects s = libraries(2, 0x10000);
	char path[sizeof sh_ledger->object[0].path + 1];

	memset(path, 'p', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	s.object[1].path = path; /* one byte too long */
	s.object[2].path = path + 1;
	sh_ledger_objects_put(0, &s);
	cr_expect_eq(count_objects(), 1);
	cr_expect_null(sh_ledger_object_at(0x11000));
	cr_expect_eq(strlen(sh_ledger_object_at(0x12000)->path), sizeof path - 2);
}

Test(ledger, a_full_table_leaves_libraries_out)
{
	struct objects s = libraries(3, 0x10000);

	for (uint32_t i = 0; i < LEDGER_OBJECTS - 2; i++)
		atomic_store(&sh_ledger->object[i].instance, 9);
	sh_ledger_objects_put(0, &s);
	cr_expect_not_null(sh_ledger_object_at(0x12000));
	cr_expect_null(sh_ledger_object_at(0x13000));
	cr_expect_eq(atomic_load(&sh_ledger->nobjects), LEDGER_OBJECTS);
}

Test(ledger, a_damaged_count_does_not_lead_behind_the_table)
{
	uint32_t i = 0;

	atomic_store(&sh_ledger->nobjects, UINT32_MAX);
	cr_expect_null(sh_ledger_object_next(&i));
	cr_expect_eq(i, LEDGER_OBJECTS);
}
