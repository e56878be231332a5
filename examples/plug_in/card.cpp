// SPDX-License-Identifier: Apache-2.0
// A chip's plug-in: knows nothing of the library but this header, and could be written in C.
#include <ashlar/chip/plugin.h>
#include <stdlib.h>
#include <string.h>

namespace {

void* allocate(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }
void release(void* p, size_t) { free(p); }
void copy(void* to, const void* from, size_t bytes) { memcpy(to, from, bytes); }
void wait() {}

/// The card adds tensors of one shape that stand in rows.
int32_t takes_rows(const ashlar_plugin_call* call) {
  for (int32_t i = 0; i < call->input_count; ++i) {
    const ashlar_plugin_tensor& x = call->inputs[i];
    int64_t step = 1;
    for (int32_t axis = x.rank; axis-- > 0; step *= x.extent[axis]) {
      if (x.stride[axis] != step || x.rank != call->inputs[0].rank ||
          x.extent[axis] != call->inputs[0].extent[axis]) {
        return 0;
      }
    }
  }
  return 1;
}
int32_t add(const ashlar_plugin_call* call) {
  const ashlar_plugin_tensor& out = call->outputs[0];
  for (int64_t i = 0; i < out.size; ++i) {
    static_cast<float*>(out.data)[i] = static_cast<const float*>(call->inputs[0].data)[i] +
                                       static_cast<const float*>(call->inputs[1].data)[i];
  }
  return 0;
}

const ashlar_plugin_kernel kernels[] = {{"add", ashlar_plugin_float32, takes_rows, add}};
const ashlar_plugin table = {ashlar_plugin_version,
                             sizeof(ashlar_plugin),
                             "card",
                             allocate,
                             release,
                             copy,
                             copy,
                             wait,
                             kernels,
                             1};

}  // namespace

extern "C" const ashlar_plugin* ashlar_plugin_table() { return &table; }
