/*
 * stub.c - makes a shared object that contains only the names of libraries.
 *
 *     | ELF header | PT_LOAD, PT_DYNAMIC | hash table | a symbol | dynamic section | strings |
 *
 * All of it is one writable segment, because the loader writes addresses into the dynamic section.
 */
#include "supervisor/zygote/stub.h"
#include "shm/kernel.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIXED 8 /* entries of the dynamic section besides the names */

struct head {
	Elf64_Ehdr header;
	Elf64_Phdr phdr[2];
	uint32_t hash[5]; /* one bucket, one symbol */
	uint32_t pad;
	Elf64_Sym sym;
};

struct stub {
	char *bytes;
	size_t strings; /* offset of the first string */
	size_t size;	/* offset behind the last string */
	unsigned ndyn;
};

static Elf64_Dyn *entries(const struct stub *s)
{
	return (Elf64_Dyn *)(s->bytes + sizeof(struct head));
}

static void put(struct stub *s, int64_t tag, uint64_t value)
{
	entries(s)[s->ndyn++] = (Elf64_Dyn){.d_tag = tag, .d_un.d_val = value};
}

static void put_string(struct stub *s, int64_t tag, const char *text)
{
	size_t n = strlen(text) + 1;

	memcpy(s->bytes + s->size, text, n);
	put(s, tag, s->size - s->strings);
	s->size += n;
}

static void fill_head(struct stub *s)
{
	struct head *h = (struct head *)s->bytes;

	h->header = (Elf64_Ehdr)
	{
		.e_type = ET_DYN,
#if defined(__x86_64__)
		.e_machine = EM_X86_64,
#elif defined(__aarch64__)
		.e_machine = EM_AARCH64,
#else
		.e_machine = EM_RISCV,
#endif
		.e_version = EV_CURRENT, .e_phoff = sizeof h->header, .e_ehsize = sizeof h->header,
		.e_phentsize = sizeof h->phdr[0], .e_phnum = 2
	};
	memcpy(h->header.e_ident, ELFMAG, SELFMAG);
	h->header.e_ident[EI_CLASS] = ELFCLASS64;
	h->header.e_ident[EI_DATA] = ELFDATA2LSB;
	h->header.e_ident[EI_VERSION] = EV_CURRENT;
	h->phdr[0] = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_filesz = s->size, .p_memsz = s->size, .p_align = 4096};
	h->phdr[1] = (Elf64_Phdr){.p_type = PT_DYNAMIC,
				  .p_flags = PF_R | PF_W,
				  .p_offset = sizeof *h,
				  .p_vaddr = sizeof *h,
				  .p_paddr = sizeof *h,
				  .p_filesz = s->ndyn * sizeof(Elf64_Dyn),
				  .p_memsz = s->ndyn * sizeof(Elf64_Dyn),
				  .p_align = 8};
	h->hash[0] = h->hash[1] = 1;
}

int sh_stub_make(const char *const *needed, unsigned n, const char *rpath, const char *runpath)
{
	size_t room = sizeof(struct head) + (n + FIXED) * sizeof(Elf64_Dyn) + 1;
	struct stub s = {.strings = room - 1, .size = room};
	int fd, err;

	for (unsigned i = 0; i < n; i++)
		room += strlen(needed[i]) + 1;
	room += (rpath ? strlen(rpath) + 1 : 0) + (runpath ? strlen(runpath) + 1 : 0);
	s.bytes = calloc(1, room);
	if (!s.bytes) {
		errno = ENOMEM;
		return -1;
	}
	for (unsigned i = 0; i < n; i++)
		put_string(&s, DT_NEEDED, needed[i]);
	if (rpath)
		put_string(&s, DT_RPATH, rpath);
	if (runpath)
		put_string(&s, DT_RUNPATH, runpath);
	put(&s, DT_HASH, offsetof(struct head, hash));
	put(&s, DT_SYMTAB, offsetof(struct head, sym));
	put(&s, DT_SYMENT, sizeof(Elf64_Sym));
	put(&s, DT_STRTAB, s.strings);
	put(&s, DT_STRSZ, s.size - s.strings);
	put(&s, DT_NULL, 0);
	fill_head(&s);
	fd = kernel_memfd_create("shoal-scope", MFD_CLOEXEC);
	if (fd >= 0 && kernel_write(fd, s.bytes, s.size) != (ssize_t)s.size) {
		err = errno;
		kernel_close(fd);
		errno = err;
		fd = -1;
	}
	free(s.bytes);
	return fd;
}
