/*
 * library_test.c - libraries that a module links: one copy for the task, fresh for each task.
 *
 * Each test writes small libraries of its own into its folder and compiles them there.
 */
#include "tests/proc/proc.h"

/* Parks until the goroutine is on another worker, or has tried often enough (one P may serve all). */
static const char move_c[] = "#include <shoal.h>\n"
			     "static inline void move(void)\n"
			     "{ int w = shoal_worker(); for (int i = 0; i < 200 && shoal_worker() == w; i++)\n"
			     "  shoal_sleep(100000); }\n";

static void put_file(const char *name, const char *content)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	cr_assert(f && fputs(content, f) >= 0 && fclose(f) == 0, "%s", path);
}

/* Compiles NAME.c (or NAME.cc) in the test's folder to libNAME.so or NAME.so. */
static void build_so(const char *compiler, const char *source, const char *so, const char *flags)
{
	put_file("move.h", move_c);
	cr_assert_eq(
		sh("cd %s && %s -shared -fPIC -O1 -fno-omit-frame-pointer -idirafter $OLDPWD/core -o %s %s %s 2>&1",
		   dir, compiler, so, source, flags),
		0, "%s", text);
}

static void build_library(const char *name, const char *content, const char *flags)
{
	char source[64], so[64];

	snprintf(source, sizeof source, "%s.c", name);
	snprintf(so, sizeof so, "lib%s.so", name);
	put_file(source, content);
	build_so("cc", source, so, flags);
}

static void build_module(const char *content, const char *flags)
{
	char all[256];

	put_file("app.c", content);
	snprintf(all, sizeof all, "-L. %s '-Wl,-rpath,$ORIGIN'", flags);
	build_so("cc", "app.c", "app.so", all);
}

#define RUN "timeout 30 build/shoal run "

PROC_TEST(library_variables_are_the_tasks)
{
	build_library("deep", "static int n = 40; int deep(void) { return ++n; }\n", "");
	build_library("count", "int deep(void); static int n; int count(void) { return ++n + deep(); }\n",
		      "-L. -ldeep");
	build_module("#include \"move.h\"\n"
		     "int count(void); int deep(void); static int last = 40;\n"
		     "int shoal_main(int argc, char **argv)\n"
		     "{ for (int i = 1; i <= 30; i++) { if (count() != i + 40 + i) return 1; move(); }\n"
		     "  return deep() == 71 && last == 40 ? 0 : 2; }\n",
		     "-lcount -ldeep");
	for (int i = 0; i < 3; i++)
		cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 0, "%s", text);
	cr_expect_eq(sh("for i in 1 2 3 4; do " RUN "%s/app.so & done; for j in $(jobs -p); do wait $j || exit 1; done",
			dir),
		     0, "four tasks at the same time: %s", text);
}

/* The module comes first, as the program does in a process; a library that was linked without naming it is found. */
PROC_TEST(library_symbols_resolve_as_in_a_program)
{
	build_library("low",
		      "int shared = 5; int low(void) { return shared; }\n"
		      "int overridden(void) { return 1; }\n",
		      "");
	build_library("high",
		      "int low(void); int overridden(void); int callback(void); extern int shared;\n"
		      "int high(void) { return overridden() * 100 + callback() * 10 + low() + (shared == 5); }\n",
		      "-Wl,--unresolved-symbols=ignore-all");
	build_module("int high(void); extern int shared;\n"
		     "int overridden(void) { return 2; }\n"
		     "int callback(void) { return 3; }\n"
		     "int shoal_main(int argc, char **argv) { return high() == 2 * 100 + 30 + 5 + 1 ? 0 : high(); }\n",
		     "-lhigh -Wl,--no-as-needed -llow");
	cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 0, "%s", text);
}

/* A block that one object allocates another may free, libc included: there is one malloc. */
PROC_TEST(library_memory_is_of_one_malloc)
{
	build_library("own",
		      "#include <stdlib.h>\n#include <string.h>\n"
		      "static char heap[1 << 16]; static size_t used;\n"
		      "void *malloc(size_t n) { used += (n + 15) & ~15ul; return heap + used; }\n"
		      "void free(void *p) { if ((char *)p < heap || (char *)p > heap + sizeof heap) abort(); }\n"
		      "char *own(const char *s) { return strcpy(malloc(strlen(s) + 1), s); }\n",
		      "");
	build_module("#include <stdlib.h>\n#include <string.h>\n#include \"move.h\"\n"
		     "char *own(const char *);\n"
		     "int shoal_main(int argc, char **argv)\n"
		     "{ for (int i = 0; i < 20; i++) { char *a = own(\"abc\"), *b = strdup(\"def\"); move();\n"
		     "    if (strcmp(a, \"abc\") || strcmp(b, \"def\")) return 1; free(a); free(b); }\n"
		     "  return 0; }\n",
		     "-lown");
	cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 0, "%s", text);
}

PROC_TEST(library_constructors_and_destructors_run_in_order)
{
	static const char source[] =
		"#include <stdio.h>\n"
		"__attribute__((constructor)) static void begin(void) { printf(\"+\" NAME \" \"); }\n"
		"__attribute__((destructor)) static void end(void) { printf(\"-\" NAME \" \"); }\n"
		"void NEXT(void); void THIS(void) { NEXT(); }\n";

	build_library("lowest", source,
		      "-DNAME='\"z\"' -DTHIS=z -DNEXT=none -Dnone=z2 -Wl,--unresolved-symbols=ignore-all");
	build_library("y", source, "-DNAME='\"y\"' -DTHIS=y -DNEXT=z -L. -llowest '-Wl,-rpath,$ORIGIN'");
	build_module("#include <stdio.h>\n#include <stdlib.h>\nvoid y(void); void z2(void) {}\n"
		     "__attribute__((constructor)) static void begin(void) { printf(\"+app \"); }\n"
		     "__attribute__((destructor)) static void end(void) { printf(\"-app \"); }\n"
		     "static void at_exit(void) { printf(\"atexit \"); }\n"
		     "int shoal_main(int argc, char **argv)\n"
		     "{ atexit(at_exit); y(); printf(\"main \"); if (argc > 1) exit(0); return 0; }\n",
		     "-ly -llowest");
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 2; k++) {
			cr_expect_eq(sh(RUN "%s/app.so %s 2>&1", dir, k ? "exit" : ""), 0, "%s", text);
			cr_expect_str_eq(text, "+z +y +app main atexit -app -y -z ");
		}
}

/* A module with static containers leaves nothing behind: no mapping, no descriptor, no instance. */
PROC_TEST(library_cxx_statics_cost_nothing_afterwards)
{
	static const char mappings[] = "build/shoal workers --json | python3 -c 'import json, sys\n"
				       "print(max(sum(1 for _ in open(\"/proc/%%d/maps\" %% w[\"pid\"])) "
				       "for w in json.load(sys.stdin)[\"workers\"] if w[\"pid\"] > 0))'";
	int before, after;

	put_file("thrower.cc",
		 "#include <stdexcept>\n#include <string>\n#include <vector>\n"
		 "static std::vector<std::string> seen(3, std::string(100, 'x'));\n"
		 "void throw_it(int n) { seen.push_back(std::to_string(n)); throw std::runtime_error(seen.back()); }\n"
		 "unsigned long count_seen() { return seen.size(); }\n");
	put_file(
		"app.cc",
		"#include <map>\n#include <iostream>\n#include <stdexcept>\n#include <string>\n"
		"void throw_it(int); unsigned long count_seen(); static std::map<std::string, int> m{{\"a\", 1}, {\"b\", 2}};\n"
		"extern \"C\" int shoal_main(int argc, char **argv)\n"
		"{ try { throw_it(7); } catch (const std::runtime_error &e) { m[e.what()]++; }\n"
		"  std::cout << m.size() << ' ' << count_seen() << std::endl; return m.size() != 3; }\n");
	build_so("c++", "thrower.cc", "libthrower.so", "");
	build_so("c++", "app.cc", "app.so", "-L. -lthrower '-Wl,-rpath,$ORIGIN'");
	for (int i = 0; i < 20; i++) {
		cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 0, "%s", text);
		cr_expect_str_eq(text, "3 4\n");
	}
	cr_assert_eq(sh(mappings), 0, "%s", text);
	before = atoi(text);
	cr_expect_eq(sh("for i in $(seq 100); do " RUN "%s/app.so >/dev/null || exit 1; done", dir), 0, "%s", text);
	cr_assert_eq(sh(mappings), 0, "%s", text);
	after = atoi(text);
	cr_expect_leq(after, before + 20);
}

PROC_TEST(library_that_cannot_be_the_tasks_is_refused_by_name)
{
	build_library("fixed",
		      "static __thread int n __attribute__((tls_model(\"initial-exec\")));\n"
		      "int fixed(void) { return ++n; }\n",
		      "");
	build_module("int fixed(void); int shoal_main(int argc, char **argv) { return fixed(); }\n", "-lfixed");
	cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 126, "%s", text);
	cr_expect(strstr(text, "libfixed.so") && strstr(text, "thread-local"), "%s", text);
	build_library("fixed", "int fixed(void) { return 0; }\n", "");
	cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 0, "a library that was replaced: %s", text);
	cr_assert_eq(sh("rm %s/libfixed.so", dir), 0);
	cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 126, "%s", text);
	cr_expect(strstr(text, "libfixed.so"), "%s", text);
}

PROC_TEST(library_search_path_is_the_submitters)
{
	static const char app[] = "int number(void); int shoal_main(int argc, char **argv) { return number(); }\n";

	cr_assert_eq(sh("mkdir %s/one %s/two", dir, dir), 0);
	build_library("number", "int number(void) { return 1; }\n", "");
	cr_assert_eq(sh("cp %s/libnumber.so %s/one", dir, dir), 0);
	put_file("app.c", app);
	build_so("cc", "app.c", "app.so", "-L. -lnumber");
	build_library("number", "int number(void) { return 2; }\n", "");
	cr_assert_eq(sh("mv %s/libnumber.so %s/two", dir, dir), 0);
	cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 126, "%s", text);
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(sh("LD_LIBRARY_PATH=%s/one " RUN "%s/app.so 2>&1", dir, dir), 1, "%s", text);
		cr_expect_eq(sh("S=$PWD/build/shoal; cd %s && LD_LIBRARY_PATH=two timeout 20 $S run app.so 2>&1", dir),
			     2, "%s", text);
	}
	cr_assert_eq(sh("cp %s/two/libnumber.so %s/one/new && mv %s/one/new %s/one/libnumber.so", dir, dir, dir, dir),
		     0);
	cr_expect_eq(sh("LD_LIBRARY_PATH=%s/one " RUN "%s/app.so 2>&1", dir, dir), 2, "the file was replaced: %s",
		     text);
}

PROC_TEST(library_code_is_preempted_and_named)
{
	build_library("spin",
		      "volatile unsigned long turns; volatile int *nowhere;\n"
		      "__attribute__((noinline)) void spin_for_ever(void) { for (;;) turns++; }\n"
		      "__attribute__((noinline)) int crash_here(void) { return *nowhere + 1; }\n",
		      "");
	build_module("#include <shoal.h>\nvoid spin_for_ever(void); int crash_here(void);\n"
		     "static void spin(void *p) { spin_for_ever(); }\n"
		     "int shoal_main(int argc, char **argv)\n"
		     "{ if (argc > 1) return crash_here() + 1;\n"
		     "  for (int i = 0; i < 4; i++) shoal_go(spin, 0, 0);\n"
		     "  for (int i = 0; i < 5; i++) shoal_sleep(1000000);\n"
		     "  return 0; }\n",
		     "-lspin");
	cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 0, "%s", text);
	cr_expect_eq(sh(RUN "%s/app.so crash 2>&1", dir), 139, "%s", text);
	cr_expect_eq(sh("build/shoal crash 2>&1"), 0);
	cr_expect(strstr(text, "crash_here"), "%s", text);
}

/* An instance that no task uses is unloaded; the next task of the module loads it anew. */
PROC_TEST(library_instances_that_nobody_uses_are_unloaded)
{
	stop();
	setenv("SHOAL_DEBUG", "idle=1", 1);
	start();
	build_library("count", "static int n; int count(void) { return ++n; }\n", "");
	build_module("int count(void); int shoal_main(int argc, char **argv) { return count() - 1; }\n", "-lcount");
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(sh(RUN "%s/app.so 2>&1", dir), 0, "%s", text);
		WAIT_FOR(sh("grep -c memfd:app.so /proc/%d/maps", pid_of("zygote")) && atoi(text) == 0);
	}
}
