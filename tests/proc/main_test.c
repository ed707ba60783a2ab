/*
 * main_test.c - ordinary programs: main is the entry, and sources are compiled with the caller's compiler and flags.
 */
#include "tests/proc/proc.h"

static void put(const char *name, const char *code)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	cr_assert(f && fputs(code, f) >= 0 && fclose(f) == 0);
}

static const char program[] = "#define _GNU_SOURCE\n"
			      "#include <errno.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
			      "static int args;\n"
			      "__attribute__((constructor)) static void first(int c, char **v, char **e)\n"
			      "{ args = c > 0 && v[0] && e; }\n"
			      "static void last(void) { puts(\"last\"); }\n"
			      "int main(int argc, char **argv, char **envp)\n"
			      "{\n"
			      "\tint found = 0;\n"
			      "\tfor (; *envp; envp++)\n\t\tfound |= !strcmp(*envp, \"FRUIT=pear\");\n"
			      "\tatexit(last);\n"
			      "\tprintf(\"%d %s %s %d %s\\n\", argc, argv[1], getenv(\"FRUIT\"), found + args,\n"
			      "\t       strrchr(argv[0], '/') + 1);\n"
			      "\tfprintf(stderr, \"%s\\n\", program_invocation_short_name);\n"
			      "\treturn 7;\n"
			      "}\n";

PROC_TEST(main_is_the_entry_of_a_program)
{
	put("program.c", program);
	cr_expect_eq(sh("FRUIT=pear build/shoal run %s/program.c one 2>&1", dir), 7, "%s", text);
	cr_expect(strstr(text, "2 one pear 2 program.c\n") && strstr(text, "last\n") && strstr(text, "program.c\n"),
		  "%s", text);
	cr_assert_eq(sh("cc -shared -fPIC -o %s/a.so %s/program.c 2>&1", dir, dir), 0, "%s", text);
	cr_expect_eq(sh("cd %s && FRUIT=pear $OLDPWD/build/shoal run ./a.so two 2>/dev/null", dir), 7, "%s", text);
	cr_expect_str_eq(text, "2 two pear 2 a.so\nlast\n");
	put("none.c", "int other(void) { return 0; }\n");
	cr_expect_eq(sh("build/shoal run %s/none.c 2>&1", dir), 127, "%s", text);
}

PROC_TEST(sources_are_compiled_with_the_callers_compiler_and_flags)
{
	put("flags.c", "#include <zlib.h>\nint main(void) { return NUMBER + (zlibVersion()[0] == 0); }\n");
	cr_expect_eq(sh("CFLAGS='-DNUMBER=5 -O1' LDLIBS=-lz build/shoal run %s/flags.c 2>&1", dir), 5, "%s", text);
	cr_expect_eq(sh("CFLAGS=-DNUMBER=6 LDLIBS='-lz -lm' build/shoal run %s/flags.c 2>&1", dir), 6, "%s", text);
	cr_expect_eq(sh("CC=/nowhere/cc build/shoal run %s/flags.c 2>&1", dir), 126, "%s", text);
	if (sh("command -v g++"))
		return;
	for (unsigned i = 0; i < 3; i++) {
		static const char *const end[] = {"cc", "cpp", "cxx"};
		char name[32];

		snprintf(name, sizeof name, "plus.%s", end[i]);
		put(name, "#include <string>\nint main(int, char **argv)\n"
			  "{ return static_cast<int>(std::string(argv[1]).size()) + NUMBER; }\n");
		cr_expect_eq(sh("CXX=g++ CXXFLAGS=-DNUMBER=%u build/shoal run %s/%s word 2>&1", i, dir, name),
			     4 + (int)i, "%s", text);
	}
}
