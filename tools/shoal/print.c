/* print.c - prints tables and JSON, and formats numbers for people. */
#include "tools/shoal/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int64_t get_int(json_t *object, const char *key, int64_t otherwise)
{
	json_t *v = json_object_get(object, key);
	return json_is_integer(v) ? json_integer_value(v) : json_is_real(v) ? (int64_t)json_real_value(v) : otherwise;
}

const char *get_text(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

int64_t get_time(json_t *object, const char *key)
{
	json_t *v = json_object_get(object, key);
	return json_is_real(v) ? (int64_t)(json_real_value(v) * 1e9) : json_integer_value(v);
}

char *show_duration(int64_t ns)
{
	int64_t s = ns / 1000000000;
	if (ns < 0)
		return must(strdup("-"));
	if (ns < 1000000)
		return format("%dus", (int)(ns / 1000));
	if (s < 1)
		return format("%dms", (int)(ns / 1000000));
	if (s < 60)
		return format("%d.%ds", (int)s, (int)(ns / 100000000 % 10));
	if (s < 3600)
		return format("%dm%02ds", (int)(s / 60), (int)(s % 60));
	if (s < 86400)
		return format("%dh%02dm", (int)(s / 3600), (int)(s / 60 % 60));
	return format("%lldd%02dh", (long long)(s / 86400), (int)(s / 3600 % 24));
}

char *show_size(int64_t bytes)
{
	static const char units[] = "BKMGTPE";
	double n = (double)bytes;
	int u = 0;
	for (; n >= 999.5 && units[u + 1]; u++)
		n /= 1024;
	return u == 0 ? format("%lldB", (long long)bytes) : format(n < 9.95 ? "%.1f%c" : "%.0f%c", n, units[u]);
}

char *show_clean(const char *text)
{
	char *copy = must(strdup(text));
	for (char *c = copy; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return copy;
}

/* ---- tables ---- */

static int width_of(const char *text)
{
	int n = 0;
	for (; *text; text++)
		n += (*text & 0xc0) != 0x80; /* UTF-8: the first byte of each character */
	return n;
}

static int width_of_output(void)
{
	struct winsize w;
	if (isatty(1) && ioctl(1, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20)
		return w.ws_col;
	return 80;
}

static bool colours(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	return isatty(1) && !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
}

static const char *colour_of(const char *status)
{
	static const struct {
		const char *start, *colour;
	} known[] = {{"running", "\033[32m"}, {"done", "\033[2m"},     {"crashed", "\033[31m"},
		     {"lost", "\033[31m"},    {"timeout", "\033[33m"}, {"cancelled", "\033[33m"},
		     {"syscall", "\033[36m"}, {"runnable", "\033[33m"}};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strncmp(status, known[i].start, strlen(known[i].start)) == 0)
			return known[i].colour;
	return NULL;
}

void table_add(struct table *t, char *cells[])
{
	size_t n = (size_t)t->columns;
	if ((t->rows + 1) * n > t->room) {
		t->room = t->room * 2 + 16 * n;
		t->cells = must(realloc(t->cells, t->room * sizeof(char *)));
	}
	memcpy(t->cells + t->rows++ * n, cells, n * sizeof(char *));
}

/* Prints text in a field of that width. cut: longer text is cut and ends with '~'. */
static void print_cell(const char *text, int width, bool right, bool cut, bool last, const char *colour)
{
	int w = width_of(text), shown = w;
	const char *end = text + strlen(text);
	if (cut && w > width) {
		shown = width - 1;
		end = text;
		for (int n = 0; n < shown; n++)
			do
				end++;
			while ((*end & 0xc0) == 0x80);
	}
	if (right)
		printf("%*s", width > w ? width - w : 0, "");
	printf("%s%.*s%s%s", colour ? colour : "", (int)(end - text), text, cut && w > width ? "~" : "",
	       colour ? "\033[0m" : "");
	if (!right && !last)
		printf("%*s", width > w ? width - w : 0, "");
}

void table_print(struct table *t)
{
	int width[TABLE_COLUMNS], used = 0, last = t->columns - 1;
	bool coloured = colours();
	for (int c = 0; c <= last; c++) {
		width[c] = width_of(t->titles[c]);
		for (size_t r = 0; r < t->rows; r++) {
			int w = width_of(t->cells[r * (size_t)t->columns + (size_t)c]);
			width[c] = w > width[c] ? w : width[c];
		}
		used += c < last ? width[c] + 2 : 0;
	}
	int room = width_of_output() - used;
	if (width[last] > room)
		width[last] = room > 8 ? room : 8;
	for (size_t r = 0; r <= t->rows; r++) {
		for (int c = 0; c <= last; c++) {
			const char *text = r ? t->cells[(r - 1) * (size_t)t->columns + (size_t)c] : t->titles[c];
			const char *colour = coloured && r && c == t->status ? colour_of(text) : NULL;
			print_cell(text, width[c], t->align[c] == 'r', c == last, c == last, colour);
			fputs(c < last ? "  " : "\n", stdout);
		}
	}
	for (size_t i = 0; i < t->rows * (size_t)t->columns; i++)
		free(t->cells[i]);
	free(t->cells);
}

/* ---- objects ---- */

void print_json(json_t *reply)
{
	json_t *shown = must(json_object()), *value;
	const char *key;
	put(shown, "version", json_integer(1));
	json_object_foreach(reply, key, value) if (strcmp(key, "ok") != 0 && strcmp(key, "version") != 0)
		put(shown, key, json_incref(value));
	char *text = must(json_dumps(shown, JSON_REAL_PRECISION(15)));
	puts(text);
	free(text);
	json_decref(shown);
}

static char *value_text(const char *key, json_t *value)
{
	size_t n = strlen(key);
	if (json_is_string(value))
		return show_clean(json_string_value(value));
	if (json_is_integer(value) && n > 3 && strcmp(key + n - 3, "_ns") == 0)
		return show_duration(json_integer_value(value));
	if (json_is_integer(value) && strncmp(key, "memory", 6) == 0) {
		char *size = show_size(json_integer_value(value));
		char *both = format("%lld (%s)", (long long)json_integer_value(value), size);
		free(size);
		return both;
	}
	return must(json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)));
}

/* Prints each member of an object on a line. */
void print_members(json_t *reply)
{
	int width = 0;
	const char *key;
	json_t *value;
	json_object_foreach(reply, key, value)
	{
		int w = width_of(key);
		width = w > width ? w : width;
	}
	json_object_foreach(reply, key, value)
	{
		if (strcmp(key, "ok") == 0 || (strcmp(key, "version") == 0 && json_is_integer(value)))
			continue;
		char *text = value_text(key, value);
		printf("%-*s  %s\n", width, key, text);
		free(text);
	}
}
