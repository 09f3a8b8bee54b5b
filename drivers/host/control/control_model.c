// SPDX-License-Identifier: MIT
/* control_model.c - what is, as JSON: classes, devices and buses by name. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control.h"

#define COUNTER(type, field) \
	{ #field, offsetof(struct type, field), sizeof(((struct type *)0)->field) }
#define OF_BUS(field) { #field, offsetof(struct vbusd_bus_status, counters.field), 8 }
#define OF_DEVICE(field) COUNTER(vbusd_device_counters, field)
#define OF_QUEUE(field) COUNTER(vbusd_queue_counters, field)

const struct control_counter control_bus_counters[] = {
	COUNTER(vbusd_bus_status, sessions), COUNTER(vbusd_bus_status, restarts),
	COUNTER(vbusd_bus_status, handovers), COUNTER(vbusd_bus_status, takeovers),
	COUNTER(vbusd_bus_status, lost),
	OF_BUS(negotiations), OF_BUS(buscalls), OF_BUS(bridgecalls), OF_BUS(stale),
	OF_BUS(violations), OF_BUS(ignored), OF_BUS(foreign), { NULL },
};

const struct control_counter control_queue_counters[] = {
	OF_QUEUE(events), OF_QUEUE(qnotify), OF_QUEUE(qinject), OF_QUEUE(notify), OF_QUEUE(inject),
	OF_QUEUE(coalesced), { NULL },
};

const struct control_counter control_device_counters[] = {
	OF_DEVICE(opens), OF_DEVICE(rx_frames), OF_DEVICE(rx_bytes), OF_DEVICE(tx_frames),
	OF_DEVICE(tx_bytes), OF_DEVICE(drops), OF_DEVICE(filtered), OF_DEVICE(violations),
	OF_DEVICE(reads), OF_DEVICE(read_bytes), OF_DEVICE(writes), OF_DEVICE(write_bytes),
	OF_DEVICE(flushes), OF_DEVICE(discards), OF_DEVICE(errors), { NULL },
};

static json_t *counters(const void *of, const struct control_counter *c)
{
	json_t *all = json_object();
	uint64_t wide;
	uint32_t narrow;

	for (; c->name; c++) {
		memcpy(&narrow, (const char *)of + c->offset, sizeof(narrow));
		wide = narrow;
		if (c->size == sizeof(wide))
			memcpy(&wide, (const char *)of + c->offset, sizeof(wide));
		/* JSON's numbers end where C's signed ones do. */
		json_object_set_new(all, c->name, json_integer((json_int_t)(wide & INT64_MAX)));
	}
	return all;
}

static void set_text(json_t *object, const char *key, const char *text, size_t room)
{
	json_object_set_new(object, key, json_stringn(text, strnlen(text, room)));
}

json_t *control_classes(void)
{
	const struct vbus_class_info *klass;
	json_t *all = json_object(), *one, *features;
	const struct vbus_mask *f;
	uint32_t i;

	control_learn_classes();
	for (i = 0; (klass = vbus_class_at(i)); i++) {
		features = json_array();
		for (f = klass->feature; f->bits; f++)
			json_array_append_new(features,
					      json_sprintf("group %u: %#x", f->gid, f->bits));
		one = json_pack("{s:s, s:i, s:o}", "type", klass->type, "version",
				(int)klass->version, "features", features);
		json_object_set_new(all, klass->name, one);
	}
	return all;
}

static json_t *group_line(uint32_t gid, uint32_t offered, uint32_t active, uint32_t masked)
{
	return json_sprintf("group %u: offered %#x, active %#x, masked %#x", gid, offered, active,
			    masked);
}

static json_t *features_of(const json_t *shell, const struct vbus_class_info *klass)
{
	const struct vbus_mask *f;
	json_t *lines = json_array();
	uint32_t masked;

	for (f = klass->feature; f->bits; f++) {
		masked = control_shell_masked(shell, f->gid);
		json_array_append_new(lines, group_line(f->gid, f->bits & ~masked, 0, masked));
	}
	return lines;
}

/* A shell, or what is written in one, until it is connected. */
static json_t *unconnected(json_t *shell)
{
	const char *type = json_string_value(json_object_get(shell, "type"));
	const struct vbus_class_info *klass = type ? control_class_find(type) : NULL;
	static const struct { const char *key, *value; } defaults[] = {
		{ "enabled", "1" }, { "ifname", "" }, { "path", "" }, { "mtu", "0" },
		{ "readonly", "0" }, { "serial", "" }, { "block_size", "0" }, { "mask", "" },
	};
	json_t *one = json_object();
	size_t i;

	json_object_set(one, "uuid", json_object_get(shell, "uuid"));
	json_object_set_new(one, "type", json_string(type ? type : ""));
	if (!klass)
		return one;
	for (i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
		if (control_device_has(klass, defaults[i].key))
			json_object_set_new(one, defaults[i].key, json_string(defaults[i].value));
	json_object_update_existing(one, shell);
	if (vbus_class_is_net(klass))
		json_object_set(one, "client_mac", json_object_get(shell, "client_mac"));
	json_object_set_new(one, "state", json_string("unconnected"));
	json_object_set_new(one, "bus", json_string(""));
	json_object_set_new(one, "features", features_of(shell, klass));
	return one;
}

static const char *device_state(const struct vbusd_device_status *s)
{
	if (!s->state)
		return "closed";
	return s->running ? "running" : "open";
}

static json_t *connected(const struct vbusd_device_status *s, const char *bus, json_t *shell)
{
	const struct vbus_class_info *klass = control_class_find(s->klass);
	json_t *one = shell ? unconnected(shell) : json_object(), *lines = json_array();
	char uuid[CONTROL_UUID_TEXT];
	uint32_t i;

	json_object_set_new(one, "uuid", json_string(control_uuid_text(s->uuid, uuid)));
	set_text(one, "type", s->klass, sizeof(s->klass));
	set_text(one, "bus", bus, VBUSD_NAME_LEN);
	json_object_set_new(one, "state", json_string(device_state(s)));
	if (klass && vbus_class_is_net(klass)) {
		json_object_set_new(one, "client_mac",
				    json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", s->mac[0],
						 s->mac[1], s->mac[2], s->mac[3], s->mac[4],
						 s->mac[5]));
		json_object_set_new(one, "mtu", json_sprintf("%u", s->mtu));
		json_object_set_new(one, "enabled", json_string(s->link ? "1" : "0"));
	}
	if (klass && !vbus_class_is_net(klass)) {
		json_object_set_new(one, "readonly",
				    json_string(s->flags & VBUSD_READ_ONLY ? "1" : "0"));
		json_object_set_new(one, "block_size", json_sprintf("%u", s->block_size));
		set_text(one, "serial", s->serial, sizeof(s->serial));
	}
	if (klass && klass->backend != VBUS_BACKEND_NONE)
		set_text(one, klass->backend == VBUS_BACKEND_TAP ? "ifname" : "path", s->argument,
			 sizeof(s->argument));
	for (i = 0; i < s->groups && i < VBUSD_GROUPS; i++)
		json_array_append_new(lines, group_line(s->group[i].gid, s->group[i].offered,
							s->group[i].active, s->group[i].masked));
	json_object_set_new(one, "features", lines);
	json_object_set_new(one, "mask", json_string(""));
	json_object_set_new(one, "statistics", counters(&s->counters, control_device_counters));
	return one;
}

/* Those of one bus go into @all. */
static void devices_of(const char *bus, json_t *all)
{
	struct vbusd_device_status s;
	char uuid[CONTROL_UUID_TEXT];
	const char *name;
	uint32_t i;

	for (i = 0; !control_ask_device(bus, i, &s); i++) {
		name = control_device_name(s.uuid, uuid);
		json_object_set_new(all, name,
				    connected(&s, bus, json_object_get(control.shells, name)));
	}
}

/* Shells are there without vbusd, with *@err set. */
json_t *control_devices(int *err)
{
	struct vbusd_bus_status bus;
	json_t *all = json_object(), *shell;
	const char *name;
	uint32_t i;

	json_object_foreach(control.shells, name, shell)
		json_object_set_new(all, name, unconnected(shell));
	for (i = 0; !(*err = control_ask_bus(i, &bus)); i++)
		devices_of(bus.name, all);
	*err = *err == -ENOENT ? 0 : *err;
	return all;
}

static json_t *bus_object(const struct vbusd_bus_status *s)
{
	static const struct vbusd_queue_counters none;
	const char *state = s->held ? "held" : !s->connected ? "listening" :
			    !s->negotiated ? "connected" : "negotiated";
	json_t *one, *queues = json_object();
	char number[12];
	uint32_t i;

	for (i = 0; i < VBUS_QUEUES; i++) {
		if (!memcmp(&s->counters.queue[i], &none, sizeof(none)))
			continue;
		snprintf(number, sizeof(number), "%u", i);
		json_object_set_new(queues, number,
				    counters(&s->counters.queue[i], control_queue_counters));
	}
	one = json_pack("{s:i, s:i, s:s, s:o, s:i, s:o, s:o}", "window_mib", (int)s->window_mib,
			"vectors", (int)s->vectors, "state", state, "epoch",
			json_sprintf("%#018llx", (unsigned long long)s->epoch), "worker",
			(int)s->worker, "statistics", counters(s, control_bus_counters), "queues",
			queues);
	set_text(one, "socket", s->path, sizeof(s->path));
	json_object_set_new(one, "connector",
			    json_string(s->connector == VBUSD_FILE ? "file" : "ivshmem"));
	return one;
}

json_t *control_buses(int *err)
{
	struct vbusd_device_status device;
	struct vbusd_bus_status s;
	char uuid[CONTROL_UUID_TEXT];
	json_t *all = json_object(), *one;
	uint32_t i, d;

	for (i = 0; !(*err = control_ask_bus(i, &s)); i++) {
		one = bus_object(&s);
		for (d = 0; !control_ask_device(s.name, d, &device); d++)
			json_object_update_missing_new(one, json_pack("{s:n}",
				control_device_name(device.uuid, uuid)));
		json_object_set_new(all, s.name, one);
	}
	if (*err == -ENOENT)
		*err = 0;
	return all;
}

/* A longer one must not become another one by being cut. */
int control_bus_name(struct vbusd_request *q, const char *name)
{
	if (strlen(name) >= sizeof(q->bus))
		return control_refuse(ENOENT, "bus %.40s: is not there", name);
	strcpy(q->bus, name);
	return 0;
}

int control_bus_add(const char *name, enum vbusd_connector connector, uint32_t window_mib,
		    uint32_t vectors, const char *socket)
{
	struct vbusd_request q = {
		.op = VBUSD_BUS_ADD,
		.window_mib = window_mib,
		.vectors = vectors,
		.connector = connector,
	};
	int len;

	if (!control_name(name) || strlen(name) >= sizeof(q.bus))
		return control_refuse(EINVAL,
				      "a bus needs a name of letters, digits, - _ and ., up to %u",
				      VBUSD_NAME_LEN - 1);
	memcpy(q.bus, name, strlen(name));
	if (socket)
		len = snprintf(q.argument, sizeof(q.argument), "%s", socket);
	else
		len = snprintf(q.argument, sizeof(q.argument), "%s/%s%s", control.sockets, name,
			       connector == VBUSD_FILE ? "" : ".sock");
	if (len < 0 || (size_t)len >= sizeof(q.argument))
		return control_refuse(EINVAL, "bus %s: its socket's path is too long", name);
	return control_ask(&q);
}

int control_bus_remove(const char *name)
{
	struct vbusd_request q = { .op = VBUSD_BUS_REMOVE };
	struct vbusd_bus_status s;
	uint32_t i;
	int err;

	for (i = 0; !(err = control_ask_bus(i, &s)); i++) {
		if (strcmp(s.name, name))
			continue;
		if (s.devices)
			return control_refuse(ENOTEMPTY, "bus %s: has %u devices", s.name,
					      s.devices);
		memcpy(q.bus, s.name, sizeof(q.bus));
		return control_ask(&q);
	}
	return err == -ENOENT ? control_refuse(ENOENT, "bus %.40s: is not there", name) : err;
}
