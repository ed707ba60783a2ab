/* frames.c - prints a frame of a stack in Go's format, and converts it to JSON. */
#include "tools/shoal/cli.h"
#include "tools/shoal/unwind.h"

#include <stdio.h>
#include <string.h>

static char name_buffer[256];

const char *frame_name(const struct unwind_frame *f)
{
	if (f->function) { /* without suffixes of the compiler, such as .isra.0 and .part.0 */
		snprintf(name_buffer, sizeof name_buffer, "%.*s", (int)strcspn(f->function + 1, ".") + 1, f->function);
		return name_buffer;
	}
	snprintf(name_buffer, sizeof name_buffer, "%s+0x%llx", f->module ? f->module : "?",
		 (unsigned long long)(f->module ? f->offset : f->pc));
	return name_buffer;
}

void frame_print_place(FILE *to, const struct unwind_frame *f)
{
	if (f->file)
		fprintf(to, "\t%s:%d +0x%llx\n", f->file, f->line, (unsigned long long)f->offset);
	else
		fprintf(to, "\t%s +0x%llx\n", f->module ? f->module : "?", (unsigned long long)f->offset);
}

void frame_print(FILE *to, const struct unwind_frame *f)
{
	fprintf(to, "%s(...)\n", frame_name(f));
	frame_print_place(to, f);
}

json_t *frame_json(const struct unwind_frame *f)
{
	char pc[24];
	json_t *o = must(json_object());

	snprintf(pc, sizeof pc, "0x%llx", (unsigned long long)f->pc);
	put(o, "function", f->function ? json_string(frame_name(f)) : json_null());
	put(o, "file", f->file ? json_string(f->file) : json_null());
	put(o, "line", f->file ? json_integer(f->line) : json_null());
	put(o, "module", f->module ? json_string(f->module) : json_null());
	put(o, "pc", json_string(pc));
	put(o, "inlined", json_boolean(f->inlined));
	return o;
}
