/*
 * curl.c - libcurl and OpenSSL as libraries of a module, against nginx with TLS: curl.so URL CERTIFICATE FILE
 *
 * Eight goroutines get the file ten times each, with a new connection and over one that is kept, and compare its bytes with the file.
 * One that is lost with its worker starts again.
 */
#include <shoal.h>

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS 8
#define GETS 10

struct page {
	size_t size;
	unsigned long sum;
};

static const struct shoal_go_opts stubborn = {.name = "client", .attempts = 100, .flags = SHOAL_ISOLATED};
static const char *url, *certificate;
static struct page right;
static struct shoal_wg wg;
static int gets;

static size_t take(char *data, size_t one, size_t n, void *to)
{
	struct page *p = to;

	for (size_t i = 0; i < one * n; i++)
		p->sum = p->sum * 31 + (unsigned char)data[i];
	p->size += one * n;
	return one * n;
}

static void client(void *arg)
{
	CURL *c = curl_easy_init();
	CURLcode r;

	(void)arg;
	for (int i = 0; i < GETS; i++) {
		struct page p = {0, 0};

		curl_easy_setopt(c, CURLOPT_URL, url);
		curl_easy_setopt(c, CURLOPT_CAINFO, certificate);
		curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1l);
		curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, (long)(i % 2));
		curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
		curl_easy_setopt(c, CURLOPT_WRITEDATA, &p);
		r = curl_easy_perform(c);
		if (r != CURLE_OK || p.size != right.size || p.sum != right.sum) {
			printf("wrong: %s: %zu bytes, sum %lu\n", curl_easy_strerror(r), p.size, p.sum);
			exit(1);
		}
		__atomic_fetch_add(&gets, 1, __ATOMIC_SEQ_CST);
	}
	curl_easy_cleanup(c);
}

int shoal_main(int argc, char **argv)
{
	FILE *f;
	int ch;

	if (argc < 4 || !(f = fopen(argv[3], "r")))
		return 2;
	url = argv[1];
	certificate = argv[2];
	for (; (ch = getc(f)) != EOF; right.size++)
		right.sum = right.sum * 31 + (unsigned char)ch;
	fclose(f);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	for (int i = 0; i < CLIENTS; i++)
		shoal_wg_go_with(&wg, &stubborn, client, NULL, 0);
	shoal_wg_wait(&wg);
	curl_global_cleanup();
	if (__atomic_load_n(&gets, __ATOMIC_SEQ_CST) < CLIENTS * GETS)
		return 1;
	printf("all right\n");
	return 0;
}
