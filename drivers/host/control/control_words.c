// SPDX-License-Identifier: MIT
/* control_words.c - what people write, judged: all of it, and nothing around it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"

/* Decimal, or hexadecimal behind 0x; no sign, no blank. */
bool control_number(const char *text, uint32_t *out)
{
	bool hex = !strncmp(text, "0x", 2);
	const char *digits = hex ? text + 2 : text;
	const char *known = hex ? "0123456789abcdefABCDEF" : "0123456789";
	size_t len = strlen(digits);
	unsigned long long n;

	if (!len || len > 10 || strspn(digits, known) != len)
		return false;
	n = strtoull(digits, NULL, hex ? 16 : 10);
	*out = (uint32_t)n;
	return n <= UINT32_MAX;
}

/* As vbusd judges the name of a bus. */
bool control_name(const char *text)
{
	const char *ok = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	size_t len = strlen(text);

	return len && text[0] != '.' && strspn(text, ok) == len;
}

/* @count bytes in hexadecimal, each group of @dashes followed by @between. */
static bool bytes(const char *text, uint8_t *out, size_t count, uint32_t dashes, char between)
{
	char pair[3] = { 0 };
	size_t i;

	for (i = 0; i < count; i++) {
		memcpy(pair, text, strnlen(text, 2));
		if (strspn(pair, "0123456789abcdefABCDEF") != 2)
			return false;
		out[i] = (uint8_t)strtoul(pair, NULL, 16);
		text += 2;
		if (dashes & 1u << i && *text++ != between)
			return false;
	}
	return !*text;
}

bool control_uuid(const char *text, uint8_t *out)
{
	return bytes(text, out, VBUS_UUID_LEN, 1u << 3 | 1u << 5 | 1u << 7 | 1u << 9, '-');
}

const char *control_uuid_text(const uint8_t *uuid, char *room)
{
	size_t i, at = 0;

	for (i = 0; i < VBUS_UUID_LEN; i++)
		at += (size_t)snprintf(room + at, 4, "%02x%s", uuid[i],
				       i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
	return room;
}

/* One that a card can have: not zero, not a group's. */
bool control_mac(const char *text, uint8_t *out)
{
	static const uint8_t none[6];

	return bytes(text, out, 6, 0x1f, ':') && memcmp(out, none, 6) && !(out[0] & 1);
}

bool control_mask(const char *text, uint32_t *group, uint32_t *bits)
{
	const char *blank = strchr(text, ' ');
	char first[12];

	if (!blank || (size_t)(blank - text) >= sizeof(first))
		return false;
	memcpy(first, text, (size_t)(blank - text));
	first[blank - text] = 0;
	return control_number(first, group) && control_number(blank + 1, bits);
}
