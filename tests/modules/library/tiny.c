/* tiny.c - a small library for tests that open one. */
int tiny_number(void);
static int calls;

int tiny_number(void)
{
	return ++calls;
}
