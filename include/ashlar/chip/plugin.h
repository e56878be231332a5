/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ASHLAR_CHIP_PLUGIN_H
#define ASHLAR_CHIP_PLUGIN_H
#include <stddef.h>
#include <stdint.h>

/* What a plug-in gives to `ashlar::chip::dynamic`: a table of function pointers, in C.
 * docs/dispatch.md explains it. New members come at the end, and with them a new version. */
#ifdef __cplusplus
extern "C" {
#endif

enum { ashlar_plugin_version = 1 };

enum ashlar_plugin_element {
  ashlar_plugin_bool = 0,
  ashlar_plugin_uint8 = 1,
  ashlar_plugin_int8 = 2,
  ashlar_plugin_int32 = 3,
  ashlar_plugin_int64 = 4,
  ashlar_plugin_float16 = 5,
  ashlar_plugin_bfloat16 = 6,
  ashlar_plugin_float32 = 7,
  ashlar_plugin_float64 = 8
};

/* A tensor on the plug-in's chip. Strides are in elements. */
typedef struct {
  void* data;
  const int64_t* extent;
  const int64_t* stride;
  int64_t size;
  int32_t rank;
  int32_t element; /* ashlar_plugin_element */
} ashlar_plugin_tensor;

enum ashlar_plugin_kind {
  ashlar_plugin_integer = 0, /* also a bool, as 0 or 1 */
  ashlar_plugin_real = 1,
  ashlar_plugin_list = 2
};

/* An attribute of a call; which member counts is in `kind`. */
typedef struct {
  int32_t kind;
  int32_t length; /* of `list` */
  int64_t integer;
  double real;
  const int64_t* list;
} ashlar_plugin_attribute;

/* A call; everything lives until the kernel returns. */
typedef struct {
  const ashlar_plugin_tensor* outputs; /* null while `takes` is asked */
  const ashlar_plugin_tensor* inputs;
  const ashlar_plugin_attribute* attributes;
  int32_t output_count;
  int32_t input_count;
  int32_t attribute_count;
} ashlar_plugin_call;

/* One operator for one element type of its result. */
typedef struct {
  const char* op; /* as in the operator's schema: "add" */
  int32_t element;
  int32_t (*takes)(const ashlar_plugin_call*); /* not 0 if it can run this call; null: any call */
  int32_t (*run)(const ashlar_plugin_call*);   /* enqueues it; 0, or an error code of its own */
} ashlar_plugin_kernel;

typedef struct {
  uint32_t version; /* ashlar_plugin_version */
  uint32_t bytes;   /* sizeof(ashlar_plugin) */
  const char* name; /* of the chip */
  void* (*allocate)(size_t bytes); /* aligned to 64 bytes; null if there is no room */
  void (*release)(void* p, size_t bytes);
  void (*copy_in)(void* to, const void* from, size_t bytes);  /* from the host; returns when done */
  void (*copy_out)(void* to, const void* from, size_t bytes); /* to the host; returns when done */
  void (*wait)(void); /* until everything enqueued has happened */
  const ashlar_plugin_kernel* kernels;
  size_t kernel_count;
} ashlar_plugin;

#ifdef __cplusplus
}
#endif
#endif
