// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>

#include <ashlar/dispatch/any.hpp>
#include <ashlar/ops.hpp>
#include <ashlar/ops/dynamic.hpp>
#include <ashlar/stack.hpp>
#include <cstdio>
namespace al = ashlar;

// Tensors whose element type and chip are values: on the host, or on whatever is plugged in.
using stack = al::stack<al::on<al::chip::host, al::chip::dynamic>, al::elements<float>>;
using any = stack::any;

void print(const char* what, const any& x) {
  std::printf("%s on %s:", what, std::string(x.where().chip).c_str());
  for (const float value : x.visit([](const auto& typed) { return al::to_vector(typed); })) {
    std::printf(" %g", static_cast<double>(value));
  }
  std::printf(", ");
}

int main() {
  void* library = dlopen(ASHLAR_EXAMPLE_PLUG_IN, RTLD_NOW);
  if (library == nullptr) {
    std::puts(dlerror());
    return 1;
  }
  using table_of = const ashlar_plugin* (*)();
  const auto table = reinterpret_cast<table_of>(dlsym(library, "ashlar_plugin_table"));
  try {
    al::chip::dynamic::admit(table == nullptr ? nullptr : table());

    const any x = al::to<al::chip::dynamic>(al::from_values<stack::tensor<float>>({3}, {1, 2, 3}));
    print("sum", al::add(x, x));     // the card's kernel
    print("square", al::mul(x, x));  // the card has no `mul`: this happens on the host
    al::add(x, any(al::ones<stack::tensor<float>>({3})));
  } catch (const al::device_error& e) {
    std::printf("not %s with %s\n", to_string(e.first).c_str(), to_string(e.second).c_str());
  } catch (const al::chip::plugin_error& e) {  // another version, or an empty field, by name
    std::puts(e.what());
    return 1;
  }
}
// prints: sum on dynamic: 2 4 6, square on dynamic: 1 4 9, not dynamic:0 with host:0
