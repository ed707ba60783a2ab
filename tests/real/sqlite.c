/*
 * sqlite.c - SQLite as a library of a module: sqlite.so FILE MODE FIRST [alone]
 *
 * Eight goroutines, each with a connection of its own, write 40 rows each into one file; MODE is wal or delete, FIRST
 * tells the rows of tasks apart that run at once. A task that runs again writes the same rows.
 *
 * alone: the root writes all rows. A goroutine that dies inside SQLite leaves SQLite's own mutexes locked, as a thread
 * that is cancelled there does. If it is the root, the task begins again with fresh variables.
 */
#include <shoal.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRITERS 8
#define ROWS 40
#define PATIENCE_MS 60000

static const char *file, *mode;
static int first;
static struct shoal_wg wg;

static void must(int code, sqlite3 *db, const char *what)
{
	if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW)
		return;
	printf("wrong: %s: %s\n", what, sqlite3_errmsg(db));
	exit(1);
}

static sqlite3 *connect_to(void)
{
	char pragma[64];
	sqlite3 *db;

	must(sqlite3_open(file, &db), db, "open");
	sqlite3_busy_timeout(db, PATIENCE_MS);
	snprintf(pragma, sizeof pragma, "PRAGMA journal_mode=%s; PRAGMA synchronous=OFF", mode);
	must(sqlite3_exec(db, pragma, NULL, NULL, NULL), db, "journal_mode");
	return db;
}

static void write_rows(void *arg)
{
	int me = *(int *)arg;
	sqlite3 *db = connect_to();
	sqlite3_stmt *s;

	must(sqlite3_prepare_v2(db, "INSERT OR REPLACE INTO t VALUES(?, ?)", -1, &s, NULL), db, "prepare");
	for (int i = 0; i < ROWS; i++) {
		sqlite3_bind_int(s, 1, (first * WRITERS + me) * ROWS + i);
		sqlite3_bind_text(s, 2, "a row of some length, so that pages fill and split", -1, SQLITE_STATIC);
		must(sqlite3_step(s), db, "insert");
		must(sqlite3_reset(s), db, "reset");
		if (i % 8 == 0)
			shoal_yield();
	}
	sqlite3_finalize(s);
	must(sqlite3_close(db), db, "close");
}

int shoal_main(int argc, char **argv)
{
	sqlite3_stmt *s;
	sqlite3 *db;
	int rows;

	if (argc < 4)
		return 2;
	file = argv[1];
	mode = argv[2];
	first = atoi(argv[3]);
	db = connect_to();
	must(sqlite3_exec(db, "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v TEXT)", NULL, NULL, NULL), db,
	     "table");
	for (int i = 0; i < WRITERS; i++) {
		if (argc > 4)
			write_rows(&i);
		else
			shoal_wg_go(&wg, write_rows, &i, sizeof i);
	}
	shoal_wg_wait(&wg);
	must(sqlite3_prepare_v2(db, "SELECT count(*) FROM t WHERE k / ? = ?", -1, &s, NULL), db, "count");
	sqlite3_bind_int(s, 1, WRITERS * ROWS);
	sqlite3_bind_int(s, 2, first);
	must(sqlite3_step(s), db, "count");
	rows = sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	must(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &s, NULL), db, "integrity_check");
	must(sqlite3_step(s), db, "integrity_check");
	printf("%d rows, %s\n", rows, sqlite3_column_text(s, 0));
	sqlite3_finalize(s);
	must(sqlite3_close(db), db, "close");
	return 0;
}
