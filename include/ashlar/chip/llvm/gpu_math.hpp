// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

namespace ashlar::chip::llvm_codegen {

/// `float @ashlar_expf(float)` for targets without a C library, within 2 ulp of exp.
///
/// exp(x) = 2^n 2^(r / ln 2) with n = round(x / ln 2) and |r| <= ln 2 / 2; both powers are the
/// machine's, which is exact for the first and within 2^-22 for the second. Results below the
/// normal numbers round once.
inline constexpr std::string_view gpu_expf = R"(
declare float @llvm.nvvm.ex2.approx.f(float)

define internal float @ashlar_expf(float %x) #0 {
  %low = fcmp olt float %x, -1.100000e+02
  %a = select i1 %low, float -1.100000e+02, float %x
  %high = fcmp ogt float %a, 1.100000e+02
  %b = select i1 %high, float 1.100000e+02, float %a
  %t = call float @llvm.fma.f32(float %b, float 0x3FF7154760000000, float 0x4168000000000000)
  %n = fsub float %t, 0x4168000000000000
  %m = fneg float %n
  %r0 = call float @llvm.fma.f32(float %m, float 0x3FE62E4000000000, float %b)
  %r = call float @llvm.fma.f32(float %m, float 0x3EB7F7D1C0000000, float %r0)
  %q = fmul float %r, 0x3FF7154760000000
  %p = call float @llvm.nvvm.ex2.approx.f(float %q)
  %s = call float @llvm.nvvm.ex2.approx.f(float %n)
  %y = fmul float %p, %s
  ret float %y
}
)";

}  // namespace ashlar::chip::llvm_codegen
