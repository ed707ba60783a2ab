/*
 * elf_test.c - reading and rewriting of shared objects: supervisor/zygote/elf.c, elf_rewrite.c, stub.c.
 */
#include "supervisor/zygote/elf.h"
#include "supervisor/zygote/stub.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Stands in for core/task/library.c, which would need a scheduler. */
bool sh_library_is_libcs(const char *soname);
bool sh_library_is_libcs(const char *soname)
{
	return strncmp(soname, "libc.so", 7) == 0 || strncmp(soname, "ld-linux", 8) == 0;
}

struct file {
	char *map;
	size_t size;
};

/* A copy of the C library's libm, which has version needs, IFUNCs and a constructor. */
static struct file copy_of_libm(void)
{
	struct file f;
	struct stat st;
	Dl_info info;
	int fd;

	cr_assert(dladdr((void *)(double (*)(double))cbrt, &info));
	fd = open(info.dli_fname, O_RDONLY);
	cr_assert(fd >= 0 && fstat(fd, &st) == 0);
	f.size = (size_t)st.st_size;
	f.map = malloc(f.size);
	cr_assert(f.map && read(fd, f.map, f.size) == st.st_size);
	close(fd);
	return f;
}

static unsigned renamed;

/* A longer name than the one in the file. */
static const char *path_of_libc(void)
{
	Dl_info info;

	cr_assert(dladdr((void *)(void *(*)(size_t))malloc, &info));
	return info.dli_fname;
}

static const char *rename_all(void *arg, const char *needed)
{
	renamed++;
	cr_expect(strcmp(arg, "libm") == 0 && sh_library_is_libcs(needed), "%s", needed);
	return strncmp(needed, "libc.so", 7) == 0 ? path_of_libc() : NULL;
}

Test(elf, rewritten_library_loads_as_a_new_one)
{
	struct file f = copy_of_libm();
	struct elf e;
	struct elf_calls calls;
	struct elf_tail tail;
	double (*root)(double) = NULL;
	char path[64];
	uint64_t value;
	void *h;
	int fd = memfd_create("copy", 0);

	cr_assert_null(sh_elf_open(&e, f.map, f.size));
	cr_assert(e.nsym > 100 && sh_elf_has(&e, DT_SONAME, &value));
	cr_assert_str_eq(sh_elf_string(&e, value), "libm.so.6");
	for (size_t i = 0; i < e.ndyn; i++)
		if (e.dyn[i].d_tag == DT_FLAGS)
			e.dyn[i].d_un.d_val = 0; /* libm has it for errno */
	cr_assert_null(sh_elf_rewrite(&e, rename_all, "libm", &calls, &tail));
	cr_expect_geq(renamed, 2);
	cr_expect(!sh_elf_has(&e, DT_SONAME, &value) && !sh_elf_has(&e, DT_INIT, &value) &&
		  !sh_elf_has(&e, DT_INIT_ARRAY, &value) && !sh_elf_has(&e, DT_FINI_ARRAY, &value));
	cr_expect(calls.init || calls.init_array);
	cr_assert(write(fd, f.map, f.size) == (ssize_t)f.size &&
		  pwrite(fd, tail.bytes, tail.size, (off_t)tail.at) == (ssize_t)tail.size);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	cr_assert_not_null(h, "%s", dlerror());
	*(void **)&root = dlsym(h, "cbrt");
	cr_assert(root && root != (double (*)(double))cbrt);
	cr_expect_float_eq(root(27), 3, 1e-9, "%g", root(27));
	free(tail.bytes);
}

/* Whatever is cut off or damaged: it is refused, or it is read within its bounds. */
Test(elf, damaged_files_are_read_within_their_bounds)
{
	struct file f = copy_of_libm();
	unsigned seed = 1;

	for (size_t cut = 0; cut < 4096; cut += 64) {
		char *part = malloc(cut + 1);
		struct elf e;

		memcpy(part, f.map, cut);
		cr_expect_not_null(sh_elf_open(&e, part, cut), "%zu bytes", cut);
		free(part);
	}
	for (int round = 0; round < 300; round++) {
		char *copy = malloc(f.size);
		struct elf e;
		uint64_t value;

		memcpy(copy, f.map, f.size);
		for (int i = 0; i < 8; i++) {
			seed = seed * 1103515245 + 12345;
			copy[(seed >> 8) % 1024] = (char)(seed >> 24); /* headers */
		}
		if (!sh_elf_open(&e, copy, f.size)) {
			for (size_t i = 0; i < e.nsym; i++)
				cr_assert(strlen(sh_elf_string(&e, e.sym[i].st_name)) < f.size);
			sh_elf_has(&e, DT_SONAME, &value);
			sh_elf_needs_libraries(&e);
		}
		free(copy);
	}
}

Test(elf, static_thread_locals_are_refused)
{
	struct file f = copy_of_libm();
	struct elf e;
	struct elf_calls calls;
	struct elf_tail tail;
	const char *why;

	cr_assert_null(sh_elf_open(&e, f.map, f.size));
	for (size_t i = 0; i < e.ndyn; i++)
		if (e.dyn[i].d_tag == DT_FLAGS)
			e.dyn[i].d_un.d_val |= DF_STATIC_TLS;
	why = sh_elf_rewrite(&e, rename_all, "libm", &calls, &tail);
	cr_assert(why && strstr(why, "DF_STATIC_TLS"), "%s", why);
}

Test(elf, stub_finds_symbols_in_the_order_of_its_names)
{
	const char *needed[] = {"libm.so.6", "libc.so.6"};
	int fd = sh_stub_make(needed, 2, NULL, "/nowhere");
	char path[64];
	void *h;

	cr_assert_geq(fd, 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	h = dlopen(path, RTLD_NOW);
	cr_assert_not_null(h, "%s", dlerror());
	cr_expect_eq(dlsym(h, "cbrt"), (void *)(double (*)(double))cbrt);
}
