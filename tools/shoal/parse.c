/* parse.c - parses arguments: options, numbers with units, MODULE:ENTRY. */
#include "shm/size.h"
#include "tools/shoal/cli.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool parse_duration(const char *text, int64_t *ns)
{
	static const struct sh_unit units[] = {{"ns", 1},   {"us", 1e3},   {"ms", 1e6}, {"s", 1e9},
					       {"m", 60e9}, {"h", 3600e9}, {NULL, 0}};
	return sh_units_parse(text, units, ns);
}

bool parse_count(const char *text, int64_t min, int64_t *n)
{
	if (!isdigit((unsigned char)*text))
		return false;
	char *end;
	errno = 0;
	*n = strtoll(text, &end, 10);
	return !*end && !errno && *n >= min;
}

int64_t parse_id(const char *what, const char *word)
{
	int64_t id;
	if (!parse_count(word, 0, &id))
		usage("'%s' is not the number of a %s", word, what);
	return id;
}

/*
 * True for one wrong, missing or additional letter, two swapped letters, or the first three or more letters of the
 * name.
 */
bool is_similar(const char *typed, const char *name)
{
	size_t t = strlen(typed), n = strlen(name), i = 0;
	while (i < t && i < n && tolower((unsigned char)typed[i]) == name[i])
		i++;
	const char *a = typed + i, *b = name + i;
	if (i == t || i == n)
		return i >= 3 || t == n;
	return strcasecmp(a + 1, b + 1) == 0 || strcasecmp(a, b + 1) == 0 || strcasecmp(a + 1, b) == 0 ||
	       (a[1] && b[1] && a[0] == b[1] && a[1] == b[0] && strcasecmp(a + 2, b + 2) == 0);
}

static void set_option(const struct opt *o, const char *shown, const char *value)
{
	int64_t n = 0;
	switch (o->kind) {
	case OPT_FLAG: *(bool *)o->to = true; return;
	case OPT_TEXT: *(const char **)o->to = value; return;
	case OPT_LIST: {
		struct opt_list *list = o->to;
		list->item = must(realloc(list->item, (list->n + 1) * sizeof(*list->item)));
		list->item[list->n++] = value;
		return;
	}
	case OPT_COUNT:
	case OPT_COUNT0:
		if (!parse_count(value, o->kind == OPT_COUNT, &n) || n > INT_MAX)
			usage("%s must be a %s integer, not '%s'", shown,
			      o->kind == OPT_COUNT ? "positive" : "non-negative", value);
		break;
	case OPT_DURATION:
		if (!parse_duration(value, &n) || n == 0)
			usage("%s must be a duration such as 250ms, 5s, 2m or 1h, not '%s'", shown, value);
		break;
	case OPT_SIZE:
		if (!sh_size_parse(value, &n) || n == 0)
			usage("%s must be a size such as 64M or 2G, not '%s'", shown, value);
		break;
	}
	*(int64_t *)o->to = n;
}

static const struct opt *find_option(const struct opt *table, const char *name, size_t len, char letter)
{
	for (const struct opt *o = table; o && o->name; o++)
		if (letter ? o->letter == letter : strlen(o->name) == len && strncmp(o->name, name, len) == 0)
			return o;
	return NULL;
}

/* Returns the option of the table that is most similar to a mistyped one, or NULL. */
static const char *near_option(const struct opt *table, const char *name, const char *best)
{
	for (const struct opt *o = table; o && o->name; o++)
		if (is_similar(name, o->name) && (!best || strlen(o->name) > strlen(best)))
			best = o->name;
	return best;
}

/* Parses the options in argv[i], and argv[i + 1] if it is the value of one. Returns the next i. */
static int take_option(int argc, char **argv, int i, const struct opt *table, const struct opt *common)
{
	const char *word = argv[i];
	bool is_long = word[1] == '-';
	const char *name = word + (is_long ? 2 : 1);
	while (*name) {
		size_t len = is_long ? strcspn(name, "=") : 1;
		const struct opt *o = find_option(table, name, len, is_long ? 0 : *name);
		if (!o)
			o = find_option(common, name, len, is_long ? 0 : *name);
		char *shown = format("%s%.*s", is_long ? "--" : "-", (int)len, name);
		if (!o) {
			const char *near =
				is_long ? near_option(table, shown + 2, near_option(common, shown + 2, NULL)) : NULL;
			usage("unknown option %s%s%s%s", shown, near ? "; did you mean --" : "", near ? near : "",
			      near ? "?" : "");
		}
		const char *rest = name + len;
		if (o->kind == OPT_FLAG) {
			if (is_long && *rest)
				usage("%s takes no value", shown);
			set_option(o, shown, NULL);
			free(shown);
			if (is_long)
				return i + 1;
			name = rest;
			continue;
		}
		const char *value = is_long && *rest ? rest + 1 : *rest ? rest : NULL;
		if (!value) {
			if (i + 1 >= argc)
				usage("%s needs a value", shown);
			value = argv[++i];
		}
		set_option(o, shown, value);
		free(shown);
		return i + 1;
	}
	return i + 1;
}

int parse_options(int argc, char **argv, const struct opt *table, bool first_ends)
{
	bool help = false;
	const struct opt common[] = {
		{"socket", 0, OPT_TEXT, &cli.socket},
		{"help", 'h', OPT_FLAG, &help},
		{!cli.verb || cli.verb->reads ? "json" : NULL, 0, OPT_FLAG, &cli.json},
		{NULL, 0, OPT_FLAG, NULL},
	};
	int words = 0, i = 0;
	while (i < argc) {
		/* A negative number is a word, not an option. The verb reports it as invalid. */
		if (argv[i][0] != '-' || !argv[i][1] || isdigit((unsigned char)argv[i][1])) {
			if (first_ends)
				break;
			argv[words++] = argv[i++];
			continue;
		}
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		i = take_option(argc, argv, i, table, common);
		if (help) {
			print_help(cli.verb);
			flush_stdout();
			exit(0);
		}
	}
	if (cli.json && cli.verb && !cli.verb->reads)
		usage("this verb has no option --json");
	if (cli.socket && !*cli.socket)
		usage("--socket needs a path");
	while (i < argc)
		argv[words++] = argv[i++];
	return words;
}

char *absolute(const char *path)
{
	while (path[0] == '.' && path[1] == '/') {
		path += 2;
		while (*path == '/')
			path++;
	}
	if (*path == '/')
		return must(strdup(path));
	char *cwd = getcwd(NULL, 0);
	if (!cwd)
		fail(failure_code(), "cannot find the path of the current folder: %s", strerror(errno));
	char *whole = format("%s/%s", strcmp(cwd, "/") ? cwd : "", path);
	free(cwd);
	return whole;
}

void parse_module(const char *word, struct module *m)
{
	struct stat st;
	m->typed = must(strdup(word));
	m->entry = "shoal_main";
	char *colon = strrchr(m->typed, ':');
	int found = stat(word, &st);
	if (found < 0 && colon) {
		*colon = 0;
		m->entry = colon + 1;
		if (!*m->typed || !*m->entry)
			usage("'%s' is not of the form MODULE:ENTRY", word);
		found = stat(m->typed, &st);
	}
	if (!*word)
		usage("the name of the module is empty");
	if (found < 0 && (errno == ENOENT || errno == ENOTDIR))
		fail(EXIT_NOT_FOUND, "%s: no such file", m->typed);
	if (found < 0)
		fail(EXIT_NOT_LOADABLE, "%s: %s", m->typed, strerror(errno));
	if (!S_ISREG(st.st_mode))
		fail(EXIT_NOT_LOADABLE, "%s: %s", m->typed,
		     S_ISDIR(st.st_mode) ? "is a folder, not a module" : "is not a regular file");
	if (access(m->typed, R_OK) < 0)
		fail(EXIT_NOT_LOADABLE, "%s: %s", m->typed, strerror(errno));
	m->path = absolute(m->typed);
}
