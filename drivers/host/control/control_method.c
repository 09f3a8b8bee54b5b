// SPDX-License-Identifier: MIT
/* control_method.c - what a line of JSON can ask for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"

typedef json_t *method_fn(json_t *params, int *err);

/* Every parameter must be one that the method knows. */
#define TAKE(params, err, ...) \
	(*(err) = json_unpack_ex(params, &why, 0, __VA_ARGS__) ? \
	 control_refuse(EINVAL, "params: %s", why.text) : 0)

static json_t *done(int err)
{
	return err ? NULL : json_true();
}

static json_t *version(json_t *params, int *err)
{
	return json_pack("{s:i}", "version", VBUSD_VERSION);
}

/* By name becomes a list; the links of a bus become its devices. */
static json_t *listed(json_t *all, const char *key, const char *wanted)
{
	json_t *list = json_array(), *one, *value, *links;
	const char *name, *inner;
	const char *is;
	void *next;

	json_object_foreach(all, name, one) {
		is = json_string_value(json_object_get(one, key));
		if (wanted && (!is || strcmp(is, wanted)))
			continue;
		links = json_array();
		json_object_foreach_safe(one, next, inner, value) {
			if (!json_is_null(value))
				continue;
			json_array_append_new(links, json_string(inner));
			json_object_del(one, inner);
		}
		if (json_object_get(one, "window_mib"))
			json_object_set(one, "devices", links);
		json_decref(links);
		json_object_set_new(one, "name", json_string(name));
		json_array_append(list, one);
	}
	json_decref(all);
	return list;
}

static json_t *class_list(json_t *params, int *err)
{
	return listed(control_classes(), "", NULL);
}

/* A function's arguments have no order: @err is looked at in here. */
static json_t *answered(json_t *value, const int *err)
{
	if (!*err)
		return value;
	json_decref(value);
	return NULL;
}

static json_t *bus_list(json_t *params, int *err)
{
	return answered(listed(control_buses(err), "", NULL), err);
}

static json_t *device_list(json_t *params, int *err)
{
	const char *bus = NULL;
	json_error_t why;

	if (TAKE(params, err, "{s?s !}", "bus", &bus))
		return NULL;
	return answered(listed(control_devices(err), "bus", bus), err);
}

static json_t *stats(json_t *params, int *err)
{
	json_t *buses = control_buses(err);
	json_t *devices = *err ? json_object() : control_devices(err);

	return answered(json_pack("{s:o, s:o}", "instances", buses, "devices", devices), err);
}

static json_t *bus_add(json_t *params, int *err)
{
	json_int_t window = CONTROL_WINDOW_MIB, vectors = VBUS_VECTORS_MIN;
	const char *bus, *socket = NULL, *connector = "ivshmem";
	json_error_t why;
	bool is_file;

	if (TAKE(params, err, "{s:s, s?I, s?I, s?s, s?s !}", "bus", &bus, "window_mib", &window,
		 "vectors", &vectors, "socket", &socket, "connector", &connector))
		return NULL;
	is_file = !strcmp(connector, "file");
	if (!is_file && strcmp(connector, "ivshmem")) {
		*err = control_refuse(EINVAL, "connector %.40s: is neither ivshmem nor file",
				      connector);
		return NULL;
	}
	if (window < 0 || window > UINT32_MAX || vectors < 0 || vectors > UINT32_MAX) {
		*err = control_refuse(ERANGE, "bus %.40s: a number is out of range", bus);
		return NULL;
	}
	*err = control_bus_add(bus, is_file ? VBUSD_FILE : VBUSD_IVSHMEM, (uint32_t)window,
			       (uint32_t)vectors, socket);
	return done(*err);
}

static json_t *bus_remove(json_t *params, int *err)
{
	const char *bus;
	json_error_t why;

	if (!TAKE(params, err, "{s:s !}", "bus", &bus))
		*err = control_bus_remove(bus);
	return done(*err);
}

/* Attributes are text in the tree; numbers and booleans are taken as well. */
static int set(const char *name, const char *key, const json_t *value)
{
	char number[24];

	if (json_is_string(value))
		return control_device_set(name, key, json_string_value(value));
	if (!json_is_integer(value) && !json_is_boolean(value))
		return control_refuse(EINVAL, "%.40s: wants a string, a number or a truth", key);
	snprintf(number, sizeof(number), "%lld", json_is_boolean(value) ? json_is_true(value) :
		 (long long)json_integer_value(value));
	return control_device_set(name, key, number);
}

static int set_all(const char *name, json_t *params)
{
	json_t *type = json_object_get(params, "type"), *value;
	const char *key;
	int err = type ? set(name, "type", type) : 0;

	json_object_foreach(params, key, value)
		if (!err && strcmp(key, "type") && strcmp(key, "device") && strcmp(key, "bus"))
			err = set(name, key, value);
	return err;
}

/* In memory; a name that is there may get what it has not. */
static int make_shell(const char *name, json_t *params)
{
	struct control_device dev = { 0 };
	bool there = json_object_get(control.shells, name);
	int err = there ? control_device_find(name, &dev) : control_device_make(name);

	if (!err && there && (dev.bus[0] || (dev.klass && json_object_get(params, "type"))))
		return control_refuse(EEXIST, "device %.63s: exists", name);
	return err ? err : set_all(name, params);
}

/* Written once it is whole, then connected: who asks again after a loss is told that it exists. */
static json_t *device_add(json_t *params, int *err)
{
	json_t *before = control.shells, *whole;
	const char *name, *bus = NULL;
	char error[sizeof(control.error)];
	json_error_t why;

	if (TAKE(params, err, "{s:s, s?s}", "device", &name, "bus", &bus))
		return NULL;
	json_incref(before);
	control.in_parts = true;
	*err = make_shell(name, params);
	whole = json_incref(control.shells);
	control_shells_keep(json_incref(before));
	control.in_parts = false;
	if (!*err)
		*err = control_shells_keep(json_incref(whole));
	if (!*err && bus && (*err = control_device_connect(bus, name)) && *err != -ENOTCONN) {
		/* A vbusd that went may have done it.  The first refusal is the one to tell. */
		memcpy(error, control.error, sizeof(error));
		control_shells_keep(json_incref(before));
		memcpy(control.error, error, sizeof(error));
	}
	json_decref(whole);
	json_decref(before);
	return done(*err);
}

/* Whatever it is connected to, and the shell. */
static json_t *device_remove(json_t *params, int *err)
{
	struct control_device dev;
	const char *name;
	json_error_t why;

	if (TAKE(params, err, "{s:s !}", "device", &name) ||
	    (*err = control_device_find(name, &dev)))
		return NULL;
	if (dev.bus[0])
		*err = control_device_disconnect(dev.bus, name);
	if (!*err && dev.shell)
		*err = control_device_forget(name);
	return done(*err);
}

static json_t *device_set(json_t *params, int *err)
{
	struct control_device dev;
	const char *name;
	json_error_t why;

	if (TAKE(params, err, "{s:s}", "device", &name))
		return NULL;
	*err = control_device_find(name, &dev);
	if (!*err)
		*err = set_all(name, params);
	return done(*err);
}

static json_t *features_mask(json_t *params, int *err)
{
	struct vbusd_request q = { .op = VBUSD_MASK, .flags = VBUSD_ALL_DEVICES };
	const char *bus = NULL, *device = NULL;
	json_int_t group, bits;
	json_error_t why;
	char text[48];

	if (TAKE(params, err, "{s?s, s?s, s:I, s:I !}", "bus", &bus, "device", &device, "group",
		 &group, "bits", &bits))
		return NULL;
	snprintf(text, sizeof(text), "%lld %lld", (long long)group, (long long)bits);
	if (!bus == !device || !control_mask(text, &q.mask[0].gid, &q.mask[0].bits)) {
		*err = control_refuse(EINVAL, "wants a bus or a device, a group and its bits");
		return NULL;
	}
	if (device)
		*err = control_device_set(device, "mask", text);
	else if (!(*err = control_bus_name(&q, bus)))
		*err = control_ask(&q);
	return done(*err);
}

static json_t *metrics(json_t *params, int *err)
{
	size_t len;
	char *raw = control_metrics(&len);
	json_t *text = json_stringn(raw, len);

	free(raw);
	return text;
}

/* The connection that asked does the rest. */
static json_t *watch(json_t *params, int *err)
{
	return json_true();
}

json_t *control_method(const char *name, json_t *params, int *err)
{
	static const struct {
		const char *name;
		method_fn *call;
		bool takes;	/* parameters */
	} methods[] = {
		{ "version", version, false },		{ "class.list", class_list, false },
		{ "bus.list", bus_list, false },	{ "bus.add", bus_add, true },
		{ "bus.remove", bus_remove, true },	{ "device.list", device_list, true },
		{ "device.add", device_add, true },	{ "device.remove", device_remove, true },
		{ "device.set", device_set, true },	{ "features.mask", features_mask, true },
		{ "stats", stats, false },		{ "metrics", metrics, false },
		{ "watch", watch, false },
	};
	size_t i;

	for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strcmp(methods[i].name, name))
			continue;
		if (methods[i].takes || !json_object_size(params))
			return methods[i].call(params, err);
		*err = control_refuse(EINVAL, "method %s: takes no params", name);
		return NULL;
	}
	*err = control_refuse(ENOSYS, "method %.40s: is not known", name);
	return NULL;
}

const char *control_code(int error)
{
	static const struct {
		int error;
		const char *code;
	} codes[] = {
		{ EINVAL, "MALFORMED" }, { ENOENT, "NO_ENTRY" }, { EEXIST, "EXISTS" },
		{ ERANGE, "RANGE" }, { EOPNOTSUPP, "UNKNOWN" }, { ENOSYS, "UNKNOWN" },
		{ ENOSPC, "FULL" }, { EBUSY, "BUSY" }, { ENOTEMPTY, "BUSY" }, { ENOTCONN, "AWAY" },
	};
	size_t i;

	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i].error == error)
			return codes[i].code;
	return "SYSTEM";
}
