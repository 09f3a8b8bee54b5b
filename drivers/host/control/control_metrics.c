// SPDX-License-Identifier: MIT
/* control_metrics.c - counters as OpenMetrics 1.0: each family whole, one after another. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"

static long long number_at(const json_t *from, const char *key)
{
	return json_integer_value(json_object_get(from, key));
}

/* Names were judged when they were given, and need no quoting. */
static void bus_families(FILE *out, json_t *buses)
{
	const struct control_counter *c;
	const char *bus, *queue;
	json_t *one, *of;

	fprintf(out, "# TYPE vbus_bus_connected gauge\n");
	json_object_foreach(buses, bus, one)
		fprintf(out, "vbus_bus_connected{bus=\"%s\"} %d\n", bus,
			strcmp(json_string_value(json_object_get(one, "state")), "listening") != 0);
	for (c = control_bus_counters; c->name; c++) {
		fprintf(out, "# TYPE vbus_bus_%s counter\n", c->name);
		json_object_foreach(buses, bus, one)
			fprintf(out, "vbus_bus_%s_total{bus=\"%s\"} %lld\n", c->name, bus,
				number_at(json_object_get(one, "statistics"), c->name));
	}
	for (c = control_queue_counters; c->name; c++) {
		fprintf(out, "# TYPE vbus_queue_%s counter\n", c->name);
		json_object_foreach(buses, bus, one)
			json_object_foreach(json_object_get(one, "queues"), queue, of)
				fprintf(out, "vbus_queue_%s_total{bus=\"%s\",queue=\"%s\"} %lld\n",
					c->name, bus, queue, number_at(of, c->name));
	}
}

static void device_families(FILE *out, json_t *devices)
{
	const struct control_counter *c;
	const char *name, *bus;
	json_t *one, *of;

	for (c = control_device_counters; c->name; c++) {
		fprintf(out, "# TYPE vbus_device_%s counter\n", c->name);
		json_object_foreach(devices, name, one) {
			of = json_object_get(one, "statistics");
			bus = json_string_value(json_object_get(one, "bus"));
			if (of)
				fprintf(out, "vbus_device_%s_total{bus=\"%s\",device=\"%s\"} "
					"%lld\n", c->name, bus, name, number_at(of, c->name));
		}
	}
}

/* Without vbusd there is one metric, which says so. */
char *control_metrics(size_t *len)
{
	json_t *buses, *devices;
	char *text = NULL;
	FILE *out = open_memstream(&text, len);
	int err;

	if (!out)
		abort();
	buses = control_buses(&err);
	fprintf(out, "# TYPE vbus_up gauge\nvbus_up %d\n", !err);
	if (!err) {
		bus_families(out, buses);
		devices = control_devices(&err);
		device_families(out, devices);
		json_decref(devices);
	}
	json_decref(buses);
	fprintf(out, "# EOF\n");
	fclose(out);
	return text;
}
