/* What an UNPACK works with: where it writes, what it has found. */
#ifndef BANGER_UNPACKER_H
#define BANGER_UNPACKER_H

#include <stdbool.h>

#include "archive.h"
#include "made.h"

struct unpacker {
	struct archive_input input;
	/* Conflicts. */
	struct archive_output output;
	unsigned conflicts;
	/* -1: it does not exist yet. */
	int base;
	/* -1: there is no overlay. */
	int upper;
	bool marks;
	/* Where files are written before they get their names; -1: beside those. */
	int staging;
	struct made made;
	/* The directory written to last, which is mostly the next one too; -1: none. */
	int parent;
	char parent_path[MAX_ARCHIVE_PATH_BYTES + 1];
	/* Files can be moved there from `staging`. */
	bool parent_is_near;
};

/* Look whether what the host is about to change is what it thinks it is; what is not becomes a conflict. Return 0 or an errno. */
int unpacker_check(struct unpacker *unpacker, const struct archive_record *record);
int unpacker_check_content(struct unpacker *unpacker, const struct archive_record *record);

/* Makes the directory for files without their names, whose parent must be there, and empties it: an earlier one may have lost its power. */
void unpacker_open_staging(struct unpacker *unpacker, const char *path);

/* Write what a record says, of a file with its segments. Return 0 or an errno. */
int unpacker_write_directory(struct unpacker *unpacker, const struct archive_record *record);
int unpacker_write_file(struct unpacker *unpacker, const struct archive_record *record);
int unpacker_write_symlink(struct unpacker *unpacker, const struct archive_record *record);
int unpacker_delete(struct unpacker *unpacker, const struct archive_record *record);

#endif
