/*
 * module_test.c - modules and their content: supervisor/daemon/task/module.c.
 */
#include "supervisor/daemon/task/module.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/keeper/ledger.h"
#include "tests/unit/daemon.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

TestSuite(module, .init = daemon_begin, .fini = daemon_end, .timeout = 60);

/* The header of a shared object of this machine, followed by bytes. */
static Elf64_Ehdr header(void)
{
	Elf64_Ehdr e;
	int fd = open("/proc/self/exe", O_RDONLY);

	cr_assert_eq(read(fd, &e, sizeof e), sizeof e);
	close(fd);
	e.e_type = ET_DYN;
	e.e_phnum = 0;
	e.e_shnum = 0;
	return e;
}

static int file_of(const void *head, size_t n, const char *rest)
{
	int fd = memfd_create("module", MFD_CLOEXEC);

	cr_assert_eq(write(fd, head, n), (ssize_t)n);
	cr_assert_eq(write(fd, rest, strlen(rest)), (ssize_t)strlen(rest));
	return fd;
}

static struct module *load(int fd, struct failure *why)
{
	struct module *m = sh_module_from(fd, "m.so", "/a/m.so", "", why);

	close(fd);
	return m;
}

static struct module *load_bytes(const char *rest)
{
	Elf64_Ehdr e = header();
	struct failure why;
	struct module *m = load(file_of(&e, sizeof e, rest), &why);

	cr_assert_not_null(m, "%s", why.text);
	return m;
}

Test(module, equal_content_is_one_module_whatever_its_name)
{
	Elf64_Ehdr e = header();
	struct failure why = {.code = 1};
	struct module *a = load_bytes("content"), *b;
	int fd = file_of(&e, sizeof e, "content");

	b = sh_module_from(fd, "other.so", "/b/other.so", "/lib", &why);
	cr_expect_eq(a, b);
	cr_expect_eq(why.code, 0);
	cr_expect_eq(sh_ledger->nmodules, 1);
	cr_expect_neq(load_bytes("Content"), a);
	cr_expect_neq(load_bytes("content "), a);
	cr_expect_eq(sh_ledger->nmodules, 3);
	close(fd);
}

Test(module, contents_with_the_same_hash_are_two_modules)
{
	struct module *other = load_bytes("12345678"), *m = load_bytes("abcdefgh");

	memcpy(m->hash, other->hash, sizeof m->hash);
	cr_expect_eq(load_bytes("12345678"), other);
	cr_expect_neq(load_bytes("abcdefgh"), other);
}

Test(module, its_content_is_a_copy)
{
	Elf64_Ehdr e = header();
	struct failure why;
	int fd = file_of(&e, sizeof e, "first");
	struct module *m = sh_module_from(fd, "m.so", "/a/m.so", "", &why);
	char now[6] = "";

	cr_assert_eq(pwrite(fd, "later", 5, sizeof e), 5);
	cr_expect_eq(pread(m->so_fd, now, 5, sizeof e), 5);
	cr_expect_str_eq(now, "first");
	cr_expect_neq(load(fd, &why), m);
}

Test(module, a_file_that_is_not_a_module_is_refused_with_the_reason)
{
	static const char *text = "#!/bin/sh\nexit 0\n this is longer than the header of an ELF file by some bytes";
	Elf64_Ehdr e = header();
	struct failure why;

	cr_expect_null(load(file_of(text, strlen(text), ""), &why));
	cr_expect_str_eq(why.text, "m.so is not an ELF file");
	cr_expect_eq(why.code, CODE_NOT_LOADABLE);
	cr_expect_null(load(file_of(&e, sizeof e - 1, ""), &why));
	cr_expect_str_eq(why.text, "m.so is not an ELF file");
	cr_expect_null(load(file_of("", 0, ""), &why));
	cr_expect_str_eq(why.text, "m.so is not an ELF file");
	cr_expect_null(load(open("/tmp", O_RDONLY), &why));
	cr_expect_eq(why.code, CODE_NOT_LOADABLE);
	cr_expect_null(load(open("/dev/null", O_RDONLY), &why));
	e.e_machine ^= 1;
	cr_expect_null(load(file_of(&e, sizeof e, ""), &why));
	cr_expect_str_eq(why.text, "m.so is built for another kind of machine");
	e = header();
	e.e_ident[EI_CLASS] = ELFCLASS32;
	cr_expect_null(load(file_of(&e, sizeof e, ""), &why));
	cr_expect_str_eq(why.text, "m.so is built for another kind of machine");
	e = header();
	e.e_type = ET_EXEC;
	cr_expect_null(load(file_of(&e, sizeof e, ""), &why));
	cr_expect_not_null(strstr(why.text, "link it with -shared"));
	cr_expect_eq(sh_ledger->nmodules, 0);
}

Test(module, a_file_of_more_than_1_GiB_is_not_read)
{
	struct failure why;
	int fd = memfd_create("large", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (1l << 30) + 1), 0);
	cr_expect_null(load(fd, &why));
	cr_expect_eq(why.code, CODE_NOT_LOADABLE);
}

Test(module, a_full_table_takes_no_further_module)
{
	Elf64_Ehdr e = header();
	struct module *known = load_bytes("known");
	struct failure why;

	sh_ledger->nmodules = LEDGER_MODULES;
	cr_expect_null(load(file_of(&e, sizeof e, "new"), &why));
	cr_expect_eq(why.code, CODE_SHOAL);
	cr_expect_not_null(strstr(why.text, "4096"));
	cr_expect_eq(load_bytes("known"), known, "a known one still runs");
}

Test(module, entries_count_only_after_a_trial_and_more_than_8_are_kept)
{
	struct module *m = load_bytes("m");
	char name[16];

	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "entry%u", i % 10);
		sh_module_add_entry(m, name);
	}
	cr_expect_eq(m->nentries, 10);
	cr_expect_eq(sh_ledger->module[m->index].nentries, LEDGER_ENTRIES, "the ledger has room for 8");
	cr_expect_not(sh_module_has(m, "entry9"));
	m->tried = true;
	cr_expect(sh_module_has(m, "entry9"));
	cr_expect_not(sh_module_has(m, "entry10"));
}

Test(module, the_next_supervisor_adopts_it_with_its_entries_and_crashes)
{
	static int fd[LEDGER_MODULES][2];
	struct module *m = load_bytes("m"), *again;

	for (unsigned i = 0; i < LEDGER_MODULES; i++)
		fd[i][0] = fd[i][1] = -1;
	for (unsigned i = 0; i < 9; i++)
		sh_module_add_entry(m, (const char *[]){"a", "b", "c", "d", "e", "f", "g", "h", "i"}[i]);
	sh_ledger->module[0].crashes = 2;
	fd[0][0] = m->so_fd;
	fd[0][1] = m->libraries_fd;
	sh_modules_adopt(fd);
	again = sh_module_first();
	cr_assert_neq(again, m);
	cr_expect_arr_eq(again->hash, m->hash, sizeof m->hash);
	cr_expect_str_eq(again->name, "m.so");
	cr_expect_eq(again->crashes, 2);
	cr_expect_eq(again->nentries, 8);
	again->tried = true;
	cr_expect(sh_module_has(again, "h"));
	cr_expect_eq(sh_module_at(0), again);
	cr_expect_null(sh_module_at(1));
}

Test(module, a_module_without_its_descriptors_is_not_adopted)
{
	static int fd[LEDGER_MODULES][2];
	struct module *m = load_bytes("m");

	for (unsigned i = 0; i < LEDGER_MODULES; i++)
		fd[i][0] = fd[i][1] = -1;
	fd[0][0] = m->so_fd;
	sh_ledger->nmodules = UINT32_MAX; /* damaged */
	sh_modules_adopt(fd);
	cr_expect_eq(sh_module_first(), m);
}

Test(module, an_incomplete_list_of_libraries_asks_for_a_new_trial)
{
	struct module *m = load_bytes("m");
	int fd = memfd_create("list", MFD_CLOEXEC);

	cr_assert_eq(write(fd, "no line end", 11), 11);
	cr_expect_not(sh_module_tried(m, fd));
	cr_expect_not(m->tried);
	cr_assert_eq(pwrite(fd, "/a/m.so\n\n", 9, 0), 9);
	cr_assert_eq(ftruncate(fd, 9), 0);
	cr_expect(sh_module_tried(m, fd));
	sh_module_outdate(m);
	cr_expect_eq(m->era, 1);
	cr_expect_eq(fake.outdated, 1);
	cr_expect_not(m->tried);
}
