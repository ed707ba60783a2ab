/*
 * dl_test.c - dlopen on a goroutine: what a task opens is loaded into its instance.
 */
#include "tests/proc/proc.h"

#include <signal.h>

#define MODULES "build/tests/modules/library/"
#define RUN "timeout 50 build/shoal run "

static void put_file(const char *name, const char *content)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	cr_assert(f && fputs(content, f) >= 0 && fclose(f) == 0, "%s", path);
}

static void build_plugin(const char *name, const char *content, const char *flags)
{
	char source[64];

	snprintf(source, sizeof source, "%s.c", name);
	put_file(source, content);
	cr_assert_eq(sh("cd %s && cc -shared -fPIC -O1 -w -idirafter $OLDPWD/core -o %s.so %s %s 2>&1", dir, name,
			source, flags),
		     0, "%s", text);
}

static void build_plugins(void)
{
	build_plugin("counter",
		     "#include <stdio.h>\nextern int host_call(int); static int n = 10;\n"
		     "__attribute__((constructor)) static void begin(void) { printf(\"[begin %d]\", host_call(1)); }\n"
		     "__attribute__((destructor)) static void end(void) { printf(\"[end %d]\", n); }\n"
		     "int count(void) { return ++n; }\n",
		     "");
	build_plugin("local", "int number(void) { return 3; }\n", "");
	build_plugin("libplugin", "int number(void) { return 4; }\n", "");
	build_plugin("global", "int global_number(void) { return 5; }\n", "");
	build_plugin(
		"user",
		"extern int global_number(void), host_call(int); int use(void) { return global_number() + host_call(10); }\n",
		"");
	build_plugin(
		"undefined",
		"extern int nowhere(void); int defined(void) { return 6; } int other(void) { return nowhere(); }\n",
		"");
	put_file("damaged.so", "this is not a library");
}

/* The same program as a process of its own prints the same. */
PROC_TEST(dl_opens_as_in_a_program)
{
	static char expected[4096];

	build_plugins();
	cr_assert_eq(sh("cc -w -rdynamic -DNATIVE -o %s/native tests/modules/library/opens.c && "
			"LD_LIBRARY_PATH=%s %s/native %s 2>&1",
			dir, dir, dir, dir),
		     0, "%s", text);
	snprintf(expected, sizeof expected, "%.4000s", text);
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(sh("LD_LIBRARY_PATH=%s " RUN MODULES "opens.so %s 2>&1", dir, dir), 0, "%s", text);
		cr_expect_str_eq(text, expected);
	}
}

/* Goroutines of one task open libraries at the same time; each finds all variables of all. */
PROC_TEST(dl_opens_from_many_goroutines)
{
	for (int i = 0; i < 6; i++) {
		char name[16], content[128];

		snprintf(name, sizeof name, "many%d", i);
		snprintf(content, sizeof content,
			 "static _Atomic int n; int add(void) { return ++n; } int which(void) { return %d; }\n", i);
		build_plugin(name, content, "");
	}
	build_plugin(
		"app",
		"#include <dlfcn.h>\n#include <shoal.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
		"static char *folder; static struct shoal_wg all;\n"
		"static void one(void *arg)\n"
		"{ int i = *(int *)arg % 6, (*add)(void), (*which)(void); char path[200]; void *h;\n"
		"  snprintf(path, sizeof path, \"%s/many%d.so\", folder, i);\n"
		"  h = dlopen(path, RTLD_NOW); if (!h) { puts(dlerror()); exit(1); }\n"
		"  add = dlsym(h, \"add\"); which = dlsym(h, \"which\");\n"
		"  for (int k = 0; k < 50; k++) { add(); if (which() != i) exit(2); if (k % 10 == 0) shoal_yield(); } }\n"
		"int shoal_main(int argc, char **argv)\n"
		"{ int sum = 0; folder = argv[1];\n"
		"  for (int i = 0; i < 60; i++) shoal_wg_go(&all, one, &i, sizeof i);\n"
		"  shoal_wg_wait(&all);\n"
		"  for (int i = 0; i < 6; i++) { char path[200]; int (*add)(void);\n"
		"    snprintf(path, sizeof path, \"%s/many%d.so\", folder, i);\n"
		"    add = dlsym(dlopen(path, RTLD_NOW | RTLD_NOLOAD), \"add\"); sum += add(); }\n"
		"  printf(\"%d\\n\", sum); return 0; }\n",
		"");
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(sh(RUN "%s/app.so %s 2>&1", dir, dir), 0, "%s", text);
		cr_expect_str_eq(text, "3006\n");
	}
}

/* A library that the module links and a plugin needs, too, is one library. */
PROC_TEST(dl_plugin_shares_the_libraries_of_the_module)
{
	build_plugin("libshared", "static int n; int shared(void) { return ++n; }\n", "");
	build_plugin("plug", "extern int shared(void); int plug(void) { return shared() * 10; }\n",
		     "-L. -lshared '-Wl,-rpath,$ORIGIN'");
	build_plugin("app",
		     "#include <dlfcn.h>\n#include <stdio.h>\nextern int shared(void);\n"
		     "int shoal_main(int argc, char **argv)\n"
		     "{ void *h = dlopen(argv[1], RTLD_NOW); int (*plug)(void) = h ? dlsym(h, \"plug\") : 0;\n"
		     "  if (!plug) { puts(dlerror()); return 1; }\n"
		     "  return shared() == 1 && plug() == 20 && shared() == 3 ? 0 : 2; }\n",
		     "-L. -lshared '-Wl,-rpath,$ORIGIN'");
	for (int i = 0; i < 2; i++)
		cr_expect_eq(sh(RUN "%s/app.so %s/plug.so 2>&1", dir, dir), 0, "%s", text);
}

/* A constructor that crashes ends the task that opens the library, and no other. */
PROC_TEST(dl_bad_libraries_affect_only_their_task)
{
	build_plugin("crash",
		     "volatile int *nowhere; __attribute__((constructor)) static void f(void) { *nowhere = 1; }\n", "");
	build_plugin(
		"app",
		"#include <dlfcn.h>\n#include <stdio.h>\n"
		"int shoal_main(int argc, char **argv) { if (!dlopen(argv[1], RTLD_NOW)) puts(dlerror()); return 3; }\n",
		"");
	cr_expect_eq(sh(RUN "%s/app.so %s/crash.so 2>&1", dir, dir), 139, "%s", text);
	cr_assert_eq(sh("head -c 3000 %s/crash.so >%s/half.so", dir, dir), 0);
	cr_expect_eq(sh(RUN "%s/app.so %s/half.so 2>&1", dir, dir), 3, "%s", text);
	cr_expect(strstr(text, "half.so"), "%s", text);
}

/* Zygotes are killed while a task opens libraries: it gets all of them. */
PROC_TEST(a_library_is_loaded_although_zygotes_are_killed)
{
	int zygote, killed = 0, kills = 0;

	build_plugin("plug", "static int n; int plug(void) { return ++n; }\n", "");
	build_plugin("app",
		     "#include <dlfcn.h>\n#include <shoal.h>\n#include <stdio.h>\n"
		     "int shoal_main(int argc, char **argv)\n"
		     "{ char path[200]; for (int i = 0; i < 20; i++) {\n"
		     "    snprintf(path, sizeof path, \"%s/copy%d.so\", argv[1], i);\n"
		     "    void *h = dlopen(path, RTLD_NOW); int (*plug)(void) = h ? dlsym(h, \"plug\") : 0;\n"
		     "    if (!plug || plug() != 1) { puts(dlerror()); return 1; } }\n"
		     "  puts(\"all\"); return 0; }\n",
		     "");
	cr_assert_eq(sh("for i in $(seq 0 19); do cp %s/plug.so %s/copy$i.so || exit 1; done", dir, dir), 0);
	sh("(" RUN "%s/app.so %s >%s/out 2>&1; echo $? >%s/code) >/dev/null 2>&1 &", dir, dir, dir, dir);
	while (sh("[ -s %s/code ]", dir) && kills < 6) {
		WAIT_FOR((zygote = pid_of("zygote")) != 0 && zygote != killed);
		if (kill(zygote, SIGKILL) == 0)
			killed = zygote, kills++;
		pass_ms(60);
	}
	until("[ -s %s/code ]", dir);
	cr_expect_eq(sh("cat %s/out; exit $(cat %s/code)", dir, dir), 0, "%s", text);
	cr_expect_str_eq(text, "all\n");
	cr_expect_gt(kills, 0);
}
